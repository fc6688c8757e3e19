/**
 * Command headers, command tables and physical region descriptors (PRDs) in guest memory (AHCI
 * 1.3.1 §4.2).
 *
 * The guest writes all of this. An address outside guest memory is an error that carries the
 * interrupt bit that the specification gives.
 */
import { GuestBuffers, joinRanges, type GuestMemory, type GuestRange } from '../../machine/guest-memory.js';
import { HostError } from '../host-error.js';
import { decodeHostFis, type HostFis } from '../../spec/sata-fis.js';
import { CommandTable, Header, PortInterrupt, headerSize } from '../../spec/ahci.js';

/**
 * A command that cannot be fetched, or whose data has no memory. `interrupt` is the PxIS bit of the
 * error.
 */
export class CommandListError extends HostError {
  override readonly name = 'CommandListError';
  readonly interrupt: number;

  constructor(interrupt: number, message: string) {
    super(message);
    this.interrupt = interrupt;
  }
}

/** A command that was fetched from a slot. */
export interface SlotCommand {
  readonly slot: number;
  readonly fis: HostFis;
  /** ACMD, 16 bytes, if the header marks a packet command. */
  readonly packet: Uint8Array | undefined;
  readonly clearBusy: boolean;
  readonly prdt: Prdt;
  /** Guest-physical address of the command header, where PRDBC is written. */
  readonly header: number;
}

/** The PRD table of a command: up to 65535 descriptors, read once the length is known. */
export interface Prdt {
  readonly address: number;
  readonly entries: number;
}

/**
 * Fetches the command of a slot.
 * @throws CommandListError
 */
export function fetchCommand(memory: GuestMemory, list: number, slot: number): SlotCommand {
  const header = list + slot * headerSize;
  const view = dataView(memory, header, headerSize);
  const flags = view.getUint32(0, true);
  const table = address(view.getUint32(8, true) & ~0x7f, view.getUint32(12, true));
  const fisDwords = flags & Header.fisLengthMask;
  const bytes = memory.view(table, CommandTable.prdt);
  if (!bytes) throw new CommandListError(PortInterrupt.hostBusFatal, 'a command table is not in guest memory');
  if (fisDwords < 2 || fisDwords > 16) {
    // §4.2.2: CFL is 2 to 16.
    throw new CommandListError(PortInterrupt.interfaceFatal, `a command FIS of ${fisDwords} dwords`);
  }
  if (flags & Header.bist) throw new CommandListError(PortInterrupt.interfaceFatal, 'no self-test by FIS is known');
  const sent = new Uint8Array(20);
  sent.set(bytes.subarray(0, Math.min(20, fisDwords * 4)));
  const fis = decodeHostFis(sent);
  // A device answers a FIS of unknown type with R_ERR (SATA 3.0 §10.3).
  if (!fis) throw new CommandListError(PortInterrupt.interfaceFatal, `a frame of type ${sent[0]} to the device`);
  const packet = flags & Header.atapi ? bytes.slice(CommandTable.packet, CommandTable.packet + 16) : undefined;
  const prdt = { address: table + CommandTable.prdt, entries: flags >>> Header.prdtLengthShift };
  return { slot, fis, packet, clearBusy: (flags & Header.clearBusy) !== 0, prdt, header };
}

/**
 * The memory of the first `length` bytes that the descriptors describe. With `short`, fewer bytes
 * are accepted.
 * @throws CommandListError `overflow` if they describe fewer bytes (§6.1.5), `hostBusFatal` if
 *   they are not in guest memory
 */
export function prdtBuffers(memory: GuestMemory, prdt: Prdt, length: number, short = false): GuestBuffers {
  const segments: GuestRange[] = [];
  let missing = length;
  for (let i = 0; i < prdt.entries && missing > 0; i++) {
    const view = dataView(memory, prdt.address + i * CommandTable.prdSize, CommandTable.prdSize);
    const start = address(view.getUint32(0, true) & ~1, view.getUint32(4, true));
    // §4.2.3.3: bit 0 of the 0-based byte count is always taken as 1.
    const count = ((view.getUint32(12, true) & CommandTable.countMask) | 1) + 1;
    const used = Math.min(count, missing);
    if (!memory.view(start, used))
      throw new CommandListError(PortInterrupt.hostBusFatal, 'data is not in guest memory');
    segments.push({ address: start, length: used });
    missing -= used;
  }
  if (missing > 0 && !short) throw new CommandListError(PortInterrupt.overflow, `no place for ${missing} bytes`);
  return new GuestBuffers(memory, joinRanges(segments));
}

/**
 * §4.2.2: writes the number of bytes transferred into the header. Does nothing if the header is not
 * in guest memory.
 */
export function writeByteCount(memory: GuestMemory, header: number, count: number): void {
  const view = memory.view(header + 4, 4);
  if (!view) return;
  new DataView(view.buffer, view.byteOffset, 4).setUint32(0, count, true);
  memory.written(header + 4, 4);
}

/**
 * Joins the halves of a 64-bit address. From 2^53 on it is inexact, but there is no memory there.
 */
export function address(low: number, high: number): number {
  return (high >>> 0) * 0x100000000 + (low >>> 0);
}

function dataView(memory: GuestMemory, at: number, length: number): DataView {
  const bytes = memory.view(at, length);
  if (!bytes) throw new CommandListError(PortInterrupt.hostBusFatal, 'a command list is not in guest memory');
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

/**
 * Guest memory as seen by one command. Once the command is given up, its writes are discarded,
 * because the driver may have reused the memory.
 */
export class CommandMemory implements GuestMemory {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #signal: AbortSignal;

  constructor(memory: GuestMemory, signal: AbortSignal) {
    this.size = memory.size;
    this.#memory = memory;
    this.#signal = signal;
  }

  view(at: number, length: number): Uint8Array | undefined {
    return this.#signal.aborted ? new Uint8Array(length) : this.#memory.view(at, length);
  }

  get addressOf(): GuestMemory['addressOf'] {
    const memory = this.#memory;
    if (!memory.addressOf) return undefined;
    return (at, length) => (this.#signal.aborted ? undefined : memory.addressOf?.(at, length));
  }

  written(at: number, length: number): void {
    if (!this.#signal.aborted) this.#memory.written(at, length);
  }
}
