/**
 * Numbers and layouts of Linux's KVM interface on x86-64, as data: ioctl requests, exit reasons,
 * and offsets in its structures (include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h; the
 * kernel's Documentation/virt/kvm/api.rst tells what each does, and is cited as [KVM] §n).
 *
 * Not here: the calls themselves (system.node.ts).
 */

/** ioctl(2) requests. */
export const Request = {
  getApiVersion: 0xae00,
  createVm: 0xae01,
  checkExtension: 0xae03,
  getVcpuMmapSize: 0xae04,
  getSupportedCpuid: 0xc008ae05,
  createVcpu: 0xae41,
  setUserMemoryRegion: 0x4020ae46,
  setTssAddress: 0xae47,
  setIdentityMapAddress: 0x4008ae48,
  createIrqchip: 0xae60,
  irqLine: 0x4008ae61,
  createPit2: 0x4040ae77,
  ioeventfd: 0x4040ae79,
  run: 0xae80,
  setRegs: 0x4090ae82,
  getSregs: 0x8138ae83,
  setSregs: 0x4138ae84,
  setCpuid2: 0x4008ae90,
  signalMsi: 0x4020aea5,
} as const;

/** The version of the interface that this code speaks; Linux has had no other since 2007. */
export const apiVersion = 12;

/** Extensions for {@link Request.checkExtension}. */
export const Extension = { tscDeadlineTimer: 72 } as const;

/** Flags of a memory slot ([KVM] §4.35). */
export const slotFlags = { readOnly: 2 } as const;

/** Flag of {@link Request.ioeventfd}: no more events for this address. */
export const ioeventfdDeassign = 4;

/** Reasons of an exit to user space ([KVM] §5). */
export const Exit = {
  io: 2,
  mmio: 6,
  shutdown: 8,
  interrupted: 10,
  internalError: 17,
  systemEvent: 24,
} as const;

/** struct kvm_run: offsets in bytes. */
export const Run = {
  immediateExit: 1,
  exitReason: 8,
  ioDirection: 32,
  ioSize: 33,
  ioPort: 34,
  ioCount: 36,
  ioDataOffset: 40,
  mmioAddress: 32,
  mmioData: 40,
  mmioLength: 48,
  mmioIsWrite: 52,
  suberror: 32,
} as const;

/** struct kvm_regs: 64-bit registers. */
export const Regs = { size: 144, rbx: 8, rsi: 32, rdi: 40, rsp: 48, rip: 128, rflags: 136 } as const;

/** struct kvm_sregs: segments of 24 bytes, tables, and control registers. */
export const Sregs = {
  size: 312,
  cs: 0,
  ds: 24,
  es: 48,
  fs: 72,
  gs: 96,
  ss: 120,
  tr: 144,
  gdtBase: 192,
  idtBase: 208,
  idtLimit: 216,
  cr0: 224,
  cr3: 240,
  cr4: 248,
  efer: 264,
} as const;

/** struct kvm_cpuid_entry2: 40 bytes after a header of 8. */
export const Cpuid = {
  header: 8,
  entry: 40,
  function: 0,
  index: 4,
  flags: 8,
  eax: 12,
  ebx: 16,
  ecx: 20,
  edx: 24,
} as const;
