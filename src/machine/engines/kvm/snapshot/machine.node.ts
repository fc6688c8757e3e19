/**
 * Saves and restores the whole machine ([KVM] §4): processors, interrupt controllers, timer, clock,
 * board and memory. All processors are held meanwhile.
 *
 * The guest's clocks go on by the time that has passed since the save, as after a live migration:
 * the time-stamp counters, and the clock of KVM. The kernel is told that the guest stood still, so
 * that its watchdogs do not complain.
 */
import { FarbusError, errnoOf } from '../../../../base/errors.js';
import type { BootPlace } from '../../../engine.js';
import { machineCalls } from '../../../../linux/virtual-machine.node.js';
import { SnapshotError } from '../../../snapshot.js';
import { Clock, Msr, Request, Size, irqchips } from '../abi.js';
import type { Board } from '../board/board.js';
import type { KvmMemory } from '../memory.node.js';
import type { Vcpu } from '../vcpu.node.js';
import { bitmapSize, bytesOfPages, copyPages, putPages, usedPages } from './memory-image.js';
import { counterOf, msrNumbers, restoreProcessor, saveProcessor, writeMsr } from './processor.node.js';
import { damaged, decodeState, encodeState, type KvmState } from './state.node.js';

/** The parts of a machine that a snapshot holds. */
export interface SavedMachine {
  readonly kvm: number;
  readonly vm: number;
  readonly vcpus: readonly Vcpu[];
  readonly board: Board;
  readonly memory: KvmMemory;
  /** Name of the host's processor, and the features that the guest is shown. */
  readonly host: KvmState['host'];
}

/** Most bytes of memory in a snapshot: a system that has just booted has written far less. */
const maxMemory = 2 ** 31;
const pageSize = 4096;
const zeros = new Uint8Array(64 * pageSize);
/**
 * A time-stamp counter far from any that is restored. The kernel takes a counter that is less than
 * a second from the expected one for a try to make all counters equal, and corrects it.
 */
const farCounter = 1n << 40n;

/**
 * @param order what the firmware was given; undefined without firmware
 * @throws SnapshotError if the guest has written too much memory
 */
export function saveMachine(machine: SavedMachine, order: readonly BootPlace[] | undefined): Uint8Array {
  const { kvm, vm, vcpus, board, memory, host } = machine;
  const system = machineCalls();
  const numbers = msrNumbers(kvm);
  // The clocks at about the same moment.
  const time = Date.now();
  const clock = ask(vm, Request.getClock, new Uint8Array(Size.clock));
  const processors = vcpus.map((vcpu) => saveProcessor(vcpu, numbers));
  const state = encodeState({
    host,
    order,
    processors,
    counterRate: system.control(vcpus[0]!.fd, Request.getTscKhz, 0),
    time,
    clock,
    controllers: irqchips.map((number) => ask(vm, Request.getIrqchip, controller(number))),
    timer: ask(vm, Request.getPit2, new Uint8Array(Size.pit)),
    board: board.save(),
  });
  const { bits, count } = usedPages(memory, isZero);
  if (count * pageSize > maxMemory) throw new SnapshotError('the guest has written more than 2 GiB of its memory');
  const bytes = new Uint8Array(state.length + bits.length + count * pageSize);
  bytes.set(state);
  bytes.set(bits, state.length);
  copyPages(memory, bits, bytes.subarray(state.length + bits.length));
  return bytes;
}

/** A state whose sizes are right for the machine. */
export interface CheckedState {
  readonly state: KvmState;
  readonly bits: Uint8Array;
  readonly pages: Uint8Array;
}

/**
 * Checks a state before anything is changed.
 * @throws SnapshotError if it is damaged, or of another processor
 */
export function checkState(
  { vcpus, memory, host }: Pick<SavedMachine, 'vcpus' | 'memory' | 'host'>,
  bytes: Uint8Array,
): CheckedState {
  const { state, rest } = decodeState(bytes);
  const bits = rest.subarray(0, bitmapSize(memory));
  const pages = rest.subarray(bits.length);
  if (bits.length !== bitmapSize(memory) || bytesOfPages(memory, bits) !== pages.length) throw damaged();
  if (state.processors.length !== vcpus.length) throw damaged();
  const { name, features } = state.host;
  if (name !== host.name) throw new SnapshotError(`it is of another processor (${name}; this one is ${host.name})`);
  if (Buffer.compare(features, host.features) !== 0)
    throw new SnapshotError('it is of a processor with other features, or of another version of KVM');
  return { state, bits, pages };
}

/**
 * Gives a new machine, whose memory is all zeros, a checked state.
 * @throws FarbusError if the kernel does not take it; the machine is of no use then
 */
export function restoreMachine(machine: SavedMachine, { state, bits, pages }: CheckedState): void {
  const { vm, vcpus, board, memory } = machine;
  putPages(memory, bits, pages);
  const passed = Math.max(0, Date.now() - state.time);
  const [first] = vcpus;
  setCounterRate(vcpus, state.counterRate);
  // All counters of a machine are equal.
  const saved = counterOf(state.processors[0]!) ?? 0n;
  const counter = BigInt.asUintN(64, saved + BigInt(Math.floor(passed * state.counterRate)));
  writeMsr(first!, Msr.tsc, BigInt.asUintN(64, counter + farCounter));
  vcpus.forEach((vcpu, i) => restoreProcessor(vcpu, state.processors[i]!, counter));
  give(vm, Request.setPit2, state.timer, 'timer');
  give(vm, Request.setClock, clockAfter(state.clock, passed), 'clock');
  irqchips.forEach((number, i) => {
    const chip = state.controllers[i]!.slice();
    new DataView(chip.buffer).setUint32(0, number, true);
    give(vm, Request.setIrqchip, chip, 'interrupt controllers');
  });
  board.restore(state.board);
  for (const { fd } of vcpus) {
    try {
      machineCalls().control(fd, Request.kvmclockCtrl, 0);
    } catch {
      // The guest does not use KVM's clock (EINVAL).
    }
  }
}

/** @throws SnapshotError if this processor cannot count at that rate */
function setCounterRate(vcpus: readonly Vcpu[], rate: number): void {
  const system = machineCalls();
  for (const { fd } of vcpus) {
    if (system.control(fd, Request.getTscKhz, 0) === rate) continue;
    try {
      system.control(fd, Request.setTscKhz, rate);
    } catch (error) {
      throw new FarbusError(`it is of a processor with another clock rate (${rate} kHz)`, { cause: error });
    }
  }
}

/** The clock of KVM, `ms` later. Its other fields are for the kernel's own conversions. */
function clockAfter(saved: Uint8Array, ms: number): Uint8Array {
  const bytes = new Uint8Array(Size.clock);
  const before = new DataView(saved.buffer, saved.byteOffset).getBigUint64(Clock.nanoseconds, true);
  const after = BigInt.asUintN(64, before + BigInt(Math.floor(ms * 1e6)));
  new DataView(bytes.buffer).setBigUint64(Clock.nanoseconds, after, true);
  return bytes;
}

/** struct kvm_irqchip that asks for the state of one controller. */
function controller(number: number): Uint8Array {
  const bytes = new Uint8Array(Size.irqchip);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}

function ask(vm: number, request: number, bytes: Uint8Array): Uint8Array {
  machineCalls().exchange(vm, request, bytes);
  return bytes;
}

function give(vm: number, request: number, bytes: Uint8Array, part: string): void {
  try {
    machineCalls().exchange(vm, request, bytes.slice());
  } catch (error) {
    throw new FarbusError(`KVM does not take its ${part} (${errnoOf(error) ?? 'refused'})`, { cause: error });
  }
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, zeros.subarray(0, bytes.length)) === 0;
}
