/**
 * The trap: the client's protection-interrupt handler 300 ([SYS] fig. 6, R5, R6).
 *
 * No memory is mapped at a logical device's addresses, so each access of the guest's driver leaves the guest (an exit)
 * and comes here, with its cause. What the figure asks is decided in this one place:
 *
 * - 301/302, the guest installs its own handler: an engine that keeps the guest's vectors virtual needs no guard on
 *   them; that the operating system has done it is read from its descriptor table (machine/descriptor-table.ts).
 * - 303, a write to a logical device's address that issues a command: the device takes it and calls the virtual I/O
 *   client 260 for each command.
 * - other registers of a device: its own business.
 * - 304, an access that no device owns: the guest's own business. It meets an empty bus: all ones, writes ignored.
 */
import type { Steps } from '../base/steps.js';

/** What an access was found to be. */
export type TrapCause = 'command' | 'register' | 'nobody';

/** A device whose registers are guarded. Called within the guest's instruction: it must not throw, block or raise an interrupt. */
export interface GuardedDevice {
  readonly name: string;
  /** Guest-physical address and length in bytes of its registers. */
  readonly base: number;
  readonly size: number;
  /** Whether a write at `offset` issues commands to the device (fig. 6, step 303). */
  issuesCommand(offset: number): boolean;
  /** Reads `size` (1, 2, 4) bytes, little-endian. */
  read(offset: number, size: number): number;
  /** Writes `size` bytes. `trap` is given where the write issues commands. */
  write(offset: number, size: number, value: number, trap?: Trap): void;
}

/** One trap that issues commands; a device attributes the commands it finds to it, for `--trace`. */
export interface Trap {
  readonly address: number;
  readonly value: number;
  /** Milliseconds, of `performance.now()`. */
  readonly time: number;
}

/** How often each cause was seen; every write of a guest that costs an exit is counted. */
export interface TrapCounts {
  reads: number;
  writes: number;
  commands: number;
  nobody: number;
}

export class TrapHandler {
  readonly counts: TrapCounts = { reads: 0, writes: 0, commands: 0, nobody: 0 };
  readonly #devices: GuardedDevice[] = [];
  readonly #steps: Steps;

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  /** [SYS] fig. 11, step 324: from now on an access to the device's addresses comes here. */
  guard(device: GuardedDevice): void {
    const clash = this.#devices.find((d) => device.base < d.base + d.size && d.base < device.base + device.size);
    if (clash) throw new RangeError(`${device.name} would overlap ${clash.name}`);
    this.#devices.push(device);
  }

  /** An exit: the guest reads `size` bytes at a guarded address. */
  read(address: number, size: number): number {
    const device = this.#find(address, size);
    if (!device) {
      this.counts.nobody++;
      return size === 4 ? 0xffffffff : (1 << (8 * size)) - 1;
    }
    this.counts.reads++;
    return device.read(address - device.base, size);
  }

  /** An exit: the guest writes `size` bytes at a guarded address. */
  write(address: number, size: number, value: number): TrapCause {
    const device = this.#find(address, size);
    if (!device) {
      this.counts.nobody++;
      return 'nobody';
    }
    this.counts.writes++;
    const offset = address - device.base;
    if (!device.issuesCommand(offset)) {
      device.write(offset, size, value);
      return 'register';
    }
    this.counts.commands++;
    device.write(offset, size, value, { address, value, time: performance.now() });
    return 'command';
  }

  /** Reports the steps of the figure up to the call of 260 for a command that `trap` issued. */
  attribute(tag: number, trap: Trap): void {
    if (!this.#steps.on) return;
    const at = `0x${trap.address.toString(16)}`;
    this.#steps.step(tag, '213', `the driver writes ${trap.value} to ${at}`, trap.time);
    this.#steps.step(tag, '214', 'nothing is mapped there: the access leaves the guest', trap.time);
    this.#steps.step(tag, '303', "a logical device's address that issues commands", trap.time);
  }

  #find(address: number, size: number): GuardedDevice | undefined {
    for (const device of this.#devices) {
      if (address >= device.base && address + size <= device.base + device.size) return device;
    }
    return undefined;
  }
}
