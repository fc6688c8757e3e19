/*
 * The start of the program, and its handler of interrupts. It returns without iret, which KVM's emulator
 * does not know in protected mode: `ret $8` drops the code segment and the flags, so interrupts
 * stay off.
 */
.set endOfInterrupt, 0xfee000b0
.section .start, "ax"
.globl _start
_start:
  mov $0x90000, %esp
  cld
  mov $bss_start, %edi
  mov $bss_end, %ecx
  sub %edi, %ecx
  xor %eax, %eax
  rep stosb
  jmp run
.globl on_interrupt
on_interrupt:
  movl $0, endOfInterrupt
  ret $8
