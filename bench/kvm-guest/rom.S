/*
 * The ROM of the guest of bench/kvm-guest.mjs: 64 KiB that end at 4 GiB. A processor starts in real
 * mode, 16 bytes below the end. This code switches to flat 32-bit protected mode, copies the
 * program to 1 MiB and jumps there.
 */
.set rom, 0xffff0000
.code16
begin:
  cli
  lgdtl %cs:table
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmpl $8, $(rom + protected)
.code32
protected:
  mov $16, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $(rom + program), %esi
  mov $0x100000, %edi
  mov $(end - program), %ecx
  cld
  rep movsb
  mov $0x100000, %eax
  jmp *%eax
.align 8
segments: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
table:
  .word 23
  .long rom + segments
.align 16
program: .incbin "program.bin"
end:
.org 0xfff0
.code16
  jmp begin
.org 0x10000
