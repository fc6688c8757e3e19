/**
 * MSI-X of one PCI function (PCI Local Bus 3.0, §6.8.2): its capability in the configuration
 * space, its table and its pending bits in a BAR.
 *
 * A message that is raised while it is masked becomes pending, and is sent when the mask goes.
 */
import type { MessageInterrupts, MsixPlace } from '../../../engine.js';
import { addCapability, capabilityAt, type SendMessage } from './capability.js';

const capabilityId = 0x11;
const entrySize = 16;
/** Message control, high byte: enable, function mask. */
const enableBit = 0x80;
const maskBit = 0x40;

export class MsixTable implements MessageInterrupts {
  readonly #place: MsixPlace;
  readonly #config: Uint8Array;
  readonly #send: SendMessage;
  readonly #table: Uint8Array;
  readonly #view: DataView;
  readonly #pending: Uint8Array;

  constructor(place: MsixPlace, barIndex: number, config: Uint8Array, send: SendMessage) {
    this.#place = place;
    this.#config = config;
    this.#send = send;
    this.#table = new Uint8Array(place.vectors * entrySize);
    this.#view = new DataView(this.#table.buffer);
    this.#pending = new Uint8Array(Math.ceil(place.vectors / 64) * 8);
    // At reset all vectors are masked (§6.8.2.9).
    for (let vector = 0; vector < place.vectors; vector++) this.#table[vector * entrySize + 12] = 1;
    const view = new DataView(config.buffer, config.byteOffset);
    addCapability(config, capabilityId);
    view.setUint16(capabilityAt + 2, place.vectors - 1, true);
    view.setUint32(capabilityAt + 4, place.tableOffset | barIndex, true);
    view.setUint32(capabilityAt + 8, place.pendingOffset | barIndex, true);
  }

  /** True if the guest has switched MSI-X on; the interrupt line is then not used. */
  get enabled(): boolean {
    return (this.#control & enableBit) !== 0;
  }

  get #control(): number {
    return this.#config[capabilityAt + 3]!;
  }

  writeConfig(offset: number, value: number): void {
    if (offset !== capabilityAt + 3) return;
    this.#config[offset] = (this.#config[offset]! & ~(enableBit | maskBit)) | (value & (enableBit | maskBit));
    this.#sendPending();
  }

  /** True if an access of `size` bytes at `offset` of the BAR touches the table or pending bits. */
  covers(offset: number, size: number): boolean {
    const { tableOffset, pendingOffset } = this.#place;
    const within = (start: number, length: number) => offset + size > start && offset < start + length;
    return within(tableOffset, this.#table.length) || within(pendingOffset, this.#pending.length);
  }

  read(offset: number, size: number): number {
    const { tableOffset, pendingOffset } = this.#place;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const byte = this.#table[offset + i - tableOffset] ?? this.#pending[offset + i - pendingOffset] ?? 0;
      value = value * 256 + byte;
    }
    return value;
  }

  write(offset: number, size: number, value: number): void {
    const at = offset - this.#place.tableOffset;
    // Only aligned dwords are defined (§6.8.2); pending bits are read-only.
    if (size !== 4 || at % 4 !== 0 || at < 0 || at >= this.#table.length) return;
    this.#view.setUint32(at, at % entrySize === 12 ? value & 1 : value, true);
    this.#sendPending();
  }

  /** Table and pending bits, for a snapshot. */
  save(): { readonly table: Uint8Array; readonly pending: Uint8Array } {
    return { table: this.#table.slice(), pending: this.#pending.slice() };
  }

  /** Restores table and pending bits of the same sizes. */
  restore(table: Uint8Array, pending: Uint8Array): void {
    this.#table.set(table);
    for (let at = 12; at < this.#table.length; at += entrySize) this.#view.setUint32(at, this.#table[at]! & 1, true);
    this.#pending.set(pending);
  }

  /** Sends the message of a vector, or makes it pending. */
  signal(vector: number): void {
    if (vector >= this.#place.vectors || !this.enabled) return;
    if (this.#masked(vector)) this.#pending[vector >> 3] = this.#pending[vector >> 3]! | (1 << (vector & 7));
    else this.#sendVector(vector);
  }

  /** The processor's vector in the message of a vector; undefined while that is masked. */
  processorVector(vector: number): number | undefined {
    if (vector >= this.#place.vectors || !this.enabled || this.#masked(vector)) return undefined;
    return this.#table[vector * entrySize + 8];
  }

  #masked(vector: number): boolean {
    return (this.#control & maskBit) !== 0 || (this.#table[vector * entrySize + 12]! & 1) !== 0;
  }

  #sendVector(vector: number): void {
    const at = vector * entrySize;
    const high = this.#view.getUint32(at + 4, true);
    this.#send(high * 2 ** 32 + this.#view.getUint32(at, true), this.#view.getUint32(at + 8, true));
  }

  #sendPending(): void {
    if (!this.enabled) return;
    for (let vector = 0; vector < this.#place.vectors; vector++) {
      const bit = 1 << (vector & 7);
      if ((this.#pending[vector >> 3]! & bit) === 0 || this.#masked(vector)) continue;
      this.#pending[vector >> 3] = this.#pending[vector >> 3]! & ~bit;
      this.#sendVector(vector);
    }
  }
}
