#!/bin/sh
# Makes a CD that boots GNU Mach with task.c as its user land: build.sh GNUMACH.GZ OUT.ISO [ARGUMENT]
#
# ARGUMENT is one for the kernel: console=com0 for a computer without a screen.
# GNUMACH.GZ is boot/gnumach-1.8-486.gz of Debian's package gnumach-image-1.8-486 for i386; it goes
# onto the CD unmodified.
# Needs: apt-get install gcc grub-common grub-pc-bin xorriso. The task is i386 code without a libc,
# which amd64's gcc compiles; on other processors install gcc-i686-linux-gnu.
set -eu
kernel=$1
iso=$2
argument=${3:-}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/cd/boot"

if command -v i686-linux-gnu-gcc >/dev/null; then cc=i686-linux-gnu-gcc; else cc='gcc -m32'; fi
$cc -march=i486 -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none \
    -nostdlib -static -no-pie -Wl,--build-id=none -o "$work/cd/boot/task" "$here/task.c"
cp "$kernel" "$work/cd/boot/gnumach.gz"
sed "s/gnumach\.gz/&${argument:+ $argument}/" "$here/grub.cfg" >"$work/grub.cfg"
grub-mkimage -O i386-pc-eltorito -o "$work/cd/boot/grub.img" -p /boot -c "$work/grub.cfg" \
    biosdisk iso9660 multiboot gzio
xorriso -as mkisofs -quiet -R -V MACH -b boot/grub.img -no-emul-boot -boot-load-size 4 -boot-info-table \
    -o "$iso" "$work/cd"
