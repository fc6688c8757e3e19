/**
 * The trap: the client's protection-interrupt handler 300 ([SYS] fig. 6, R5, R6).
 *
 * No memory is mapped at a logical device's addresses. So each access of the guest's driver to them
 * leaves the guest (an exit) and comes here. This is the only place that makes the decisions of the
 * figure:
 *
 * - 301, 302, the guest installs its own handler: an engine that virtualises the guest's vectors
 *   does not need to guard them. machine/descriptor-table.ts reads the guest's descriptor table to
 *   see that the operating system has installed its handlers.
 * - 303, a write that issues a command to a logical device: the device handles the write and calls
 *   the virtual I/O client 260 for each command.
 * - Accesses to other registers of a device: the device handles them.
 * - 304, an access to an address that no device owns: it acts like an empty bus. Reads return all
 *   ones, writes are ignored.
 */
import type { Steps } from '../base/steps.js';

/**
 * Classification of an access: it issued a command, it went to another register, or no device owns
 * the address.
 */
export type TrapCause = 'command' | 'register' | 'unclaimed';

/**
 * A device whose registers are guarded. It is called within a guest instruction, so it must not
 * throw or wait. It may set its interrupt line: the engine raises the interrupt only after the
 * instruction (engine.ts, InterruptLine).
 */
export interface GuardedDevice {
  readonly name: string;
  /** Guest-physical address of its registers, and their size in bytes. */
  readonly base: number;
  readonly size: number;
  /** True if a write at `offset` issues commands to the device (fig. 6, step 303). */
  issuesCommand(offset: number): boolean;
  /** Reads `size` (1, 2 or 4) bytes at `offset`, little-endian. */
  read(offset: number, size: number): number;
  /** Writes `size` bytes at `offset`. `trap` is given if the write issues commands. */
  write(offset: number, size: number, value: number, trap?: Trap): void;
}

/**
 * One trap that issues commands. The device attributes each command that it finds to its trap, for
 * `--trace`.
 */
export interface Trap {
  readonly address: number;
  readonly value: number;
  /** Time of the exit, in ms of `performance.now()`. */
  readonly time: number;
}

/**
 * Number of accesses by kind. Every access that costs an exit is counted once, and a write that
 * issues commands also in `commands`.
 */
export interface TrapCounts {
  /** Reads of registers. */
  reads: number;
  /** Writes of registers. */
  writes: number;
  /** Writes that issued commands. */
  commands: number;
  /** Accesses that no device owns. */
  unclaimed: number;
}

export class TrapHandler {
  readonly counts: TrapCounts = { reads: 0, writes: 0, commands: 0, unclaimed: 0 };
  readonly #devices: GuardedDevice[] = [];
  readonly #steps: Steps;

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  /**
   * [SYS] fig. 11, step 324: from now on, accesses to the device's addresses come here.
   * @throws RangeError if the addresses overlap those of another device
   */
  guard(device: GuardedDevice): void {
    const clash = this.#devices.find((d) => device.base < d.base + d.size && d.base < device.base + device.size);
    if (clash) throw new RangeError(`${device.name} would overlap ${clash.name}`);
    this.#devices.push(device);
  }

  /** An exit: the guest reads `size` bytes at `address`. */
  read(address: number, size: number): number {
    const device = this.#find(address, size);
    if (!device) {
      this.counts.unclaimed++;
      return size === 4 ? 0xffffffff : (1 << (8 * size)) - 1;
    }
    this.counts.reads++;
    return device.read(address - device.base, size);
  }

  /** An exit: the guest writes `size` bytes at `address`. */
  write(address: number, size: number, value: number): TrapCause {
    const device = this.#find(address, size);
    if (!device) {
      this.counts.unclaimed++;
      return 'unclaimed';
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

  /** For `--trace`: reports the steps of the figure from the driver's write to the call of 260. */
  attribute(traceId: number, trap: Trap): void {
    if (!this.#steps.on) return;
    const at = `0x${trap.address.toString(16)}`;
    this.#steps.step(traceId, '213', `the driver writes ${trap.value} to ${at}`, trap.time);
    this.#steps.step(traceId, '214', 'nothing is mapped there: the access leaves the guest', trap.time);
    this.#steps.step(traceId, '303', "a logical device's address that issues commands", trap.time);
  }

  #find(address: number, size: number): GuardedDevice | undefined {
    for (const device of this.#devices) {
      if (address >= device.base && address + size <= device.base + device.size) return device;
    }
    return undefined;
  }
}
