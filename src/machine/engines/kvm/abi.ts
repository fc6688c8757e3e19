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
  getMsrIndexList: 0xc004ae02,
  checkExtension: 0xae03,
  getVcpuMmapSize: 0xae04,
  getSupportedCpuid: 0xc008ae05,
  createVcpu: 0xae41,
  setUserMemoryRegion: 0x4020ae46,
  setTssAddress: 0xae47,
  setIdentityMapAddress: 0x4008ae48,
  createIrqchip: 0xae60,
  irqLine: 0x4008ae61,
  getIrqchip: 0xc208ae62,
  setIrqchip: 0x8208ae63,
  createPit2: 0x4040ae77,
  ioeventfd: 0x4040ae79,
  setClock: 0x4030ae7b,
  getClock: 0x8030ae7c,
  run: 0xae80,
  getRegs: 0x8090ae81,
  setRegs: 0x4090ae82,
  getSregs: 0x8138ae83,
  setSregs: 0x4138ae84,
  getMsrs: 0xc008ae88,
  setMsrs: 0x4008ae89,
  getLapic: 0x8400ae8e,
  setLapic: 0x4400ae8f,
  setCpuid2: 0x4008ae90,
  getMpState: 0x8004ae98,
  setMpState: 0x4004ae99,
  getPit2: 0x8070ae9f,
  setPit2: 0x4070aea0,
  getVcpuEvents: 0x8040ae9f,
  setVcpuEvents: 0x4040aea0,
  getDebugRegs: 0x8080aea1,
  setDebugRegs: 0x4080aea2,
  setTscKhz: 0xaea2,
  getTscKhz: 0xaea3,
  getXsave: 0x9000aea4,
  setXsave: 0x5000aea5,
  signalMsi: 0x4020aea5,
  getXcrs: 0x8188aea6,
  setXcrs: 0x4188aea7,
  kvmclockCtrl: 0xaead,
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

/** Sizes in bytes of structures that a snapshot keeps as they are. */
export const Size = {
  mpState: 4,
  xsave: 4096,
  xcrs: 392,
  debugRegs: 128,
  lapic: 1024,
  vcpuEvents: 64,
  irqchip: 520,
  pit: 112,
  clock: 48,
} as const;

/** struct kvm_msrs: entries of 16 bytes (number, padding, value) after a header of 8. */
export const Msrs = { header: 8, entry: 16, value: 8 } as const;

/** Model-specific registers (Intel SDM vol. 4; AMD APM vol. 2, appendix A). */
export const Msr = { tsc: 0x10, tscDeadline: 0x6e0 } as const;

/** struct kvm_clock_data: the guest's clock in ns, then flags. */
export const Clock = { nanoseconds: 0 } as const;

/** Numbers of the interrupt controllers: two 8259A, and the I/O APIC. */
export const irqchips = [0, 1, 2] as const;

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
