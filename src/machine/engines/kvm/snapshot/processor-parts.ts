/** The parts of a virtual processor's state, as data ([KVM] §4); processor.node.ts moves them. */
import { Regs, Request, Size, Sregs } from '../abi.js';

/**
 * Parts that the kernel takes as they are, in the order of a restore: the local APIC needs its base
 * address from the special registers.
 */
export const processorParts = {
  runState: { get: Request.getMpState, set: Request.setMpState, size: Size.mpState },
  registers: { get: Request.getRegs, set: Request.setRegs, size: Regs.size },
  special: { get: Request.getSregs, set: Request.setSregs, size: Sregs.size },
  extended: { get: Request.getXsave, set: Request.setXsave, size: Size.xsave },
  extendedControl: { get: Request.getXcrs, set: Request.setXcrs, size: Size.xcrs },
  debug: { get: Request.getDebugRegs, set: Request.setDebugRegs, size: Size.debugRegs },
  apic: { get: Request.getLapic, set: Request.setLapic, size: Size.lapic },
} as const;
export type ProcessorPart = keyof typeof processorParts;
export const partNames = Object.keys(processorParts) as ProcessorPart[];

export interface ProcessorState {
  readonly parts: Readonly<Record<ProcessorPart, Uint8Array>>;
  /** struct kvm_msr_entry, one after the other. */
  readonly msrs: Uint8Array;
  /** struct kvm_vcpu_events. */
  readonly events: Uint8Array;
}
