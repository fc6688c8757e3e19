#!/bin/sh
# Installs the foreign programs that the tests run against, from Debian's packages, if they are
# missing. It needs root, or sudo without a password; otherwise it prints the one line to run, and
# fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# One line for each program, or file by its path: its name, and the package that has it.
peers='
nbdkit nbdkit
nbdinfo libnbd-bin
nbdcopy libnbd-bin
nbddump libnbd-bin
nbdsh python3-libnbd
qemu-img qemu-utils
qemu-io qemu-utils
qemu-nbd qemu-utils
systemd-socket-activate systemd
systemd-analyze systemd
fio fio
strace strace
nbd-client nbd-client
qemu-system-i386 qemu-system-x86
nsenter util-linux
mcopy mtools
mkfs.vfat dosfstools
mkfs.ext4 e2fsprogs
debugfs e2fsprogs
blkid util-linux
sfdisk fdisk
mkfs.exfat exfatprogs
mkntfs ntfs-3g
mkfs.xfs xfsprogs
mkfs.btrfs btrfs-progs
mkfs.f2fs f2fs-tools
cryptsetup cryptsetup-bin
mksquashfs squashfs-tools
lz4 lz4
mkudffs udftools
xorriso xorriso
qemu-system-x86_64 qemu-system-x86
grub-mkimage grub-common
/usr/lib/grub/i386-pc/grub-bios-setup grub-pc-bin
ssh openssh-client
sshd openssh-server
/usr/lib/openssh/sftp-server openssh-sftp-server
inetd openbsd-inetd
in.rshd rsh-redone-server
busybox busybox
csh csh
fish fish
zsh zsh
groff groff-base
ip iproute2
openssl openssl
vblade vblade
/usr/lib/ipxe/ipxe.iso ipxe
chromium chromium
xz xz-utils
zstd zstd
cpio cpio
gpgv gpgv
dpkg-deb dpkg
tar tar
nginx nginx-light
ceph-mon ceph-mon
ceph-osd ceph-osd
ceph-mgr ceph-mgr
rbd ceph-common
radosgw radosgw
debootstrap debootstrap
'

# A compiler of i386 code without a libc, for the task of GNU Mach (tests/guests/mach/build.sh).
case $(uname -m) in
x86_64 | i?86) peers="$peers gcc gcc" ;;
*) peers="$peers i686-linux-gnu-gcc gcc-i686-linux-gnu" ;;
esac

missing() {
    echo "$peers" | while read -r program package; do
        [ -z "$program" ] || { [ "${program#/}" != "$program" ] && [ -e "$program" ]; } || command -v "$program" >/dev/null || echo "$package"
    done | sort -u | tr '\n' ' '
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "The tests need programs of these Debian packages, or your system's equals: $wanted" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    root='sudo -n'
else
    echo "The tests need some programs; run: sudo apt-get install -y --no-install-recommends $wanted" >&2
    exit 1
fi

echo "Installing what the tests run against: $wanted"
log=$(mktemp)
# The packages must not start their servers (sshd, inetd): the tests start their own
# (Debian's policy-rc.d(5)).
policy=/usr/sbin/policy-rc.d
own_policy=
if [ ! -e "$policy" ]; then
    own_policy=$policy
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
fi
trap 'rm -f "$log"; [ -z "$own_policy" ] || $root rm -f "$own_policy"' EXIT
apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
# A broken index of one source does not matter if the packages can be had all the same.
$apt update >"$log" 2>&1 || true
# The words of $wanted are packages.
# shellcheck disable=SC2086
if ! $apt install --no-install-recommends $wanted >>"$log" 2>&1 </dev/null || [ -n "$(missing)" ]; then
    cat "$log" >&2
    echo "Could not install what the tests run against: $(missing)" >&2
    exit 1
fi
