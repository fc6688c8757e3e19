/**
 * Writes to a function's registers for which the kernel raises an event (KVM_IOEVENTFD, [KVM]
 * §4.59): the processor goes on at once, without an exit to this process. The value is lost.
 *
 * The event belongs to a guest-physical address, so it moves with the function's BAR.
 */
import type { Socket } from 'node:net';
import { createEvent, watchEvent } from '../../../linux/event.node.js';
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import type { WriteEvents } from '../../engine.js';
import { Request, ioeventfdDeassign } from './abi.js';

export class KvmWriteEvents implements WriteEvents {
  readonly #vm: number;
  /** Guest-physical address of the BAR; undefined while it is switched off. */
  readonly #barAt: () => number | undefined;
  #offsets: readonly number[] = [];
  #told: () => void = () => undefined;
  #event: { readonly fd: number; readonly socket: Socket } | undefined;
  /** The place of the BAR for which {@link #addresses} are registered. */
  #at: number | undefined;
  readonly #addresses = new Set<number>();
  #closed = false;

  constructor(vm: number, barAt: () => number | undefined) {
    this.#vm = vm;
    this.#barAt = barAt;
  }

  watch(offsets: readonly number[], told: () => void): void {
    this.#offsets = offsets;
    this.#told = told;
    this.#register();
  }

  /** Must be called when the guest may have moved the BAR, or switched it on or off. */
  moved(): void {
    if (this.#barAt() !== this.#at) this.#register();
  }

  /** Must be called before the machine's descriptor is closed. */
  close(): void {
    this.#offsets = [];
    this.#register();
    this.#closed = true;
    this.#event?.socket.destroy();
  }

  /** Registers the addresses that are wanted now, and no others. */
  #register(): void {
    if (this.#closed) return;
    const at = this.#barAt();
    this.#at = at;
    const wanted = new Set(at === undefined ? [] : this.#offsets.map((offset) => at + offset));
    for (const address of this.#addresses) {
      if (wanted.has(address)) continue;
      this.#assign(address, ioeventfdDeassign);
      this.#addresses.delete(address);
    }
    for (const address of wanted) {
      // An address that the kernel does not take, for example one that two functions claim, stays
      // with the trap.
      if (!this.#addresses.has(address) && this.#assign(address, 0)) this.#addresses.add(address);
    }
  }

  /** Returns false if the kernel refuses. */
  #assign(address: number, flags: number): boolean {
    // struct kvm_ioeventfd: value, address, length, descriptor, flags. A length of 0 means any,
    // and spares the kernel decoding the instruction on Intel's processors.
    const view = new DataView(new ArrayBuffer(64));
    view.setBigUint64(8, BigInt(address), true);
    try {
      view.setInt32(20, this.#descriptor(), true);
      view.setUint32(24, flags, true);
      machineCalls().exchange(this.#vm, Request.ioeventfd, new Uint8Array(view.buffer));
      return true;
    } catch {
      return false;
    }
  }

  #descriptor(): number {
    if (!this.#event) {
      const fd = createEvent();
      const socket = watchEvent(fd, () => this.#told());
      socket.unref();
      this.#event = { fd, socket };
    }
    return this.#event.fd;
  }
}
