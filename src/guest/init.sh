#!/bin/sh
# The first process of the guest: mounts what a user land needs, loads the drivers that the initramfs was made with,
# says "farbus: ready" on the console, and keeps a shell there. The words of /etc/farbus-modules are modules to load.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
hostname guest
ln -s /proc/mounts /etc/mtab

# One process for all of them: modules.dep has the order. What it cannot load it names on the console.
modprobe -a $(cat /etc/farbus-modules)

# A word farbus.address=192.0.2.7/24 on the kernel's command line is the address of the first network card.
for word in $(cat /proc/cmdline); do
    case $word in
    farbus.address=*)
        ip link set lo up
        ip link set eth0 up && ip address add "${word#*=}" dev eth0
        ;;
    farbus.hostname=*) hostname "${word#*=}" ;;
    esac
done

export PS1="$(hostname)# "
cd /root
echo 'farbus: ready'
# A shell of its own session with the console as its terminal, so that Ctrl-C and job control work; again after "exit".
while true; do
    setsid cttyhack sh
done
