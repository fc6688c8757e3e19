/**
 * The state of one virtual processor, as the kernel gives and takes it ([KVM] §4): registers, FPU
 * and vector state, local APIC with its timer, model-specific registers, pending events.
 *
 * Left out: nested virtualisation, which a guest is not shown.
 */
import { FarbusError, errnoOf } from '../../../../base/errors.js';
import { machineCalls } from '../../../../linux/virtual-machine.node.js';
import { Msr, Msrs, Request, Size } from '../abi.js';
import type { Vcpu } from '../vcpu.node.js';
import { partNames, processorParts, type ProcessorPart, type ProcessorState } from './processor-parts.js';

/**
 * Registers of memory types, which some kernels leave out of their list: variable and fixed ranges,
 * and the default type (Intel SDM vol. 3, §12.11).
 */
const memoryTypes = [
  ...Array.from({ length: 16 }, (_, i) => 0x200 + i),
  ...[0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff],
];
const maxMsrs = 1024;

/** Numbers of the model-specific registers that make up a processor's state. */
export function msrNumbers(kvm: number): readonly number[] {
  const bytes = new Uint8Array(4 + 4 * maxMsrs);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, maxMsrs, true);
  machineCalls().exchange(kvm, Request.getMsrIndexList, bytes);
  const listed = Array.from({ length: view.getUint32(0, true) }, (_, i) => view.getUint32(4 + 4 * i, true));
  return [...new Set([...listed, ...memoryTypes])];
}

/** Reads the state of a held processor. */
export function saveProcessor(vcpu: Vcpu, numbers: readonly number[]): ProcessorState {
  const saved = {} as Record<ProcessorPart, Uint8Array>;
  for (const part of partNames) {
    const { get, size } = processorParts[part];
    saved[part] = bytesOf(vcpu.get(get, size));
  }
  // The kernel lists registers that this processor may not have.
  const known = numbers.flatMap((number) => {
    const value = readMsr(vcpu, number);
    return value === undefined ? [] : [{ number, value }];
  });
  const msrs = new DataView(new ArrayBuffer(known.length * Msrs.entry));
  known.forEach(({ number, value }, i) => {
    msrs.setUint32(i * Msrs.entry, number, true);
    msrs.setBigUint64(i * Msrs.entry + Msrs.value, value, true);
  });
  // Last, because the calls above may turn pending events into others.
  const events = bytesOf(vcpu.get(Request.getVcpuEvents, Size.vcpuEvents));
  return { parts: saved, msrs: bytesOf(msrs), events };
}

/**
 * Gives a held processor a saved state. Guest memory must have its content already.
 * @param counter the time-stamp counter, instead of the saved one
 * @throws FarbusError if the kernel does not take it
 */
export function restoreProcessor(vcpu: Vcpu, state: ProcessorState, counter: bigint): void {
  for (const part of partNames) {
    const { set } = processorParts[part];
    taken(part, () => vcpu.set(set, viewOf(state.parts[part])));
  }
  // The timer's deadline is compared with the counter.
  const rank = (number: number) => (number === Msr.tscDeadline ? 1 : 0);
  const entries = msrEntries(state.msrs).filter(({ number }) => number !== Msr.tsc);
  writeMsr(vcpu, Msr.tsc, counter);
  for (const { number, value } of entries.sort((a, b) => rank(a.number) - rank(b.number))) {
    // Some registers can only be read; they are right if they have the value already.
    if (readMsr(vcpu, number) === value && number !== Msr.tscDeadline) continue;
    taken(`register 0x${number.toString(16)}`, () => writeMsr(vcpu, number, value));
  }
  taken('events', () => vcpu.set(Request.setVcpuEvents, viewOf(state.events)));
}

/** The saved time-stamp counter; undefined if there is none. */
export function counterOf({ msrs }: ProcessorState): bigint | undefined {
  return msrEntries(msrs).find(({ number }) => number === Msr.tsc)?.value;
}

/**
 * Sets a model-specific register.
 * @throws Error if the processor does not take it
 */
export function writeMsr(vcpu: Vcpu, number: number, value: bigint): void {
  const view = oneMsr(number);
  view.setBigUint64(Msrs.header + Msrs.value, value, true);
  if (machineCalls().exchange(vcpu.fd, Request.setMsrs, new Uint8Array(view.buffer)) !== 1)
    throw new Error('the processor refuses it');
}

/** Reads a model-specific register; undefined if the processor has none. */
function readMsr(vcpu: Vcpu, number: number): bigint | undefined {
  const view = oneMsr(number);
  if (machineCalls().exchange(vcpu.fd, Request.getMsrs, new Uint8Array(view.buffer)) !== 1) return undefined;
  return view.getBigUint64(Msrs.header + Msrs.value, true);
}

/** struct kvm_msrs with one entry. */
function oneMsr(number: number): DataView {
  const view = new DataView(new ArrayBuffer(Msrs.header + Msrs.entry));
  view.setUint32(0, 1, true);
  view.setUint32(Msrs.header, number, true);
  return view;
}

function msrEntries(msrs: Uint8Array): { readonly number: number; readonly value: bigint }[] {
  const view = viewOf(msrs);
  return Array.from({ length: msrs.length / Msrs.entry }, (_, i) => ({
    number: view.getUint32(i * Msrs.entry, true),
    value: view.getBigUint64(i * Msrs.entry + Msrs.value, true),
  }));
}

/** Runs a call that gives the kernel a part of a state. */
function taken(part: string, call: () => void): void {
  try {
    call();
  } catch (error) {
    throw new FarbusError(`KVM does not take its ${part} (${errnoOf(error) ?? 'refused'})`, { cause: error });
  }
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/**
 * A copy, because the kernel writes to some structures that it reads. `slice` would not do: that of
 * a Buffer copies nothing.
 */
function viewOf(bytes: Uint8Array): DataView {
  return new DataView(new Uint8Array(bytes).buffer);
}
