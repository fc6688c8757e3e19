#!/bin/sh
# The first process of a system that is on a disk: loads the drivers of the board's devices, finds the root file
# system by the word root=LABEL=… of the kernel's command line, and gives over to its init.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s

modprobe -a $(cat /etc/farbus-modules)
# The file system that shows UEFI's variables, if UEFI has booted this computer.
if [ -d /sys/firmware/efi/efivars ]; then modprobe efivarfs; fi

root=
for word in $(cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done

# Disks come when their drivers have asked them: tenths of a second here, more where the network is slow.
tries=0
until device=$(findfs "$root" 2>/dev/null); do
    tries=$((tries + 1))
    if [ "$tries" = 600 ]; then
        echo "no disk has the root file system $root: a shell, to look around"
        exec setsid cttyhack sh
    fi
    usleep 100000
done

mkdir /disk
mount -o ro "$device" /disk
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /disk/run
for folder in dev proc sys; do mount -o move "/$folder" "/disk/$folder"; done
exec switch_root /disk /sbin/init
