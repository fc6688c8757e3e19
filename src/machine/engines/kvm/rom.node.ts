/**
 * Memory of the board below 4 GiB that the guest can only read: firmware, where a processor finds
 * its first instruction, and flash. The guest's writes to it are exits.
 */
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { Request, slotFlags } from './abi.js';

const page = 4096;

export class Rom {
  /** The content, which the guest sees. */
  readonly bytes: Uint8Array;
  readonly #vm: number;
  readonly #slot: number;
  readonly #start: number;

  /**
   * Shows `content`, whole pages, at the guest-physical address `start`. Keep the object as long as
   * the machine exists.
   * @param slot number of the memory slot, from {@link firstRomSlot} on
   */
  constructor(vm: number, slot: number, start: number, content: Uint8Array) {
    if (content.length === 0 || content.length % page !== 0) throw new RangeError('a ROM has whole pages');
    this.#vm = vm;
    this.#slot = slot;
    this.#start = start;
    const block = new SharedArrayBuffer(content.length + page);
    const address = machineCalls().addressOf(new Uint8Array(block, 0, 1));
    this.bytes = new Uint8Array(block, Number(-address & BigInt(page - 1)), content.length);
    this.bytes.set(content);
    this.show(true);
  }

  /** Shows the content to the guest, or hides it so that reads are exits. */
  show(shown: boolean): void {
    const system = machineCalls();
    const region = new DataView(new ArrayBuffer(32));
    region.setUint32(0, this.#slot, true);
    region.setUint32(4, slotFlags.readOnly, true);
    region.setBigUint64(8, BigInt(this.#start), true);
    region.setBigUint64(16, BigInt(shown ? this.bytes.length : 0), true);
    region.setBigUint64(24, system.addressOf(this.bytes), true);
    system.exchange(this.#vm, Request.setUserMemoryRegion, new Uint8Array(region.buffer));
  }
}
