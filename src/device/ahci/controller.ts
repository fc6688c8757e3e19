/**
 * An AHCI 1.3.1 host bus adapter: generic registers, ports, interrupts and resets.
 *
 * A guest may write any value to any register. The answer is the error that the specification
 * gives; a reset of the port or of the adapter clears it.
 *
 * Left out: port multipliers, enclosure management, command completion coalescing, link power
 * states, BIOS handoff (CAP2.BOH is 0), several MSI messages.
 */
import { silent, ThrottledLogger, type Logger } from '../../base/log.js';
import { Steps } from '../../base/steps.js';
import type { InterruptLine } from '../../machine/engine.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import type { GuardedDevice, Trap } from '../../machine/trap.js';
import type { CommandTimes } from '../command-times.js';
import { AhciPort } from './port.js';
import { readHba, writeHba, type HbaFile } from './registers.js';
import type { SataDevice } from '../ata/sata-device.js';
import { Ghc, PortRegister, maxPorts, portSize, portsStart } from '../../spec/ahci.js';
import { checkLike, highestRegister } from '../saved-state.js';
import type { AhciState } from './state.js';

/**
 * PCI vendor and device id. They are not assigned to any vendor, so no driver applies quirks to
 * them.
 */
export const vendorId = 0xfb05;
export const deviceId = 0x0002;
/** PCI class code: mass storage, SATA, AHCI 1.0 (§2.1.5). The registers are in BAR 5 (§2.1.11). */
export const classCode = [0x01, 0x06, 0x01] as const;
export const barIndex = 5;

export interface AhciOptions {
  readonly base: number;
  readonly memory: GuestMemory;
  /** Number of ports, 1 to 32. */
  readonly ports: number;
  readonly steps?: Steps;
  /** Attributes a command to the trap that issued it, for `--trace` ([SYS] fig. 6). */
  readonly attribute?: (traceId: number, trap: Trap) => void;
  readonly onCommand?: (times: CommandTimes) => void;
  readonly log?: Logger;
}

export class AhciController implements GuardedDevice {
  readonly name = 'ahci';
  readonly base: number;
  /**
   * The smallest power of two that holds the registers of all ports, because a BAR's size is a
   * power of two.
   */
  readonly size = 0x2000;
  /** Number of interrupts (the line going from low to high), and of commands completed. */
  readonly counts = { interrupts: 0, commands: 0 };
  readonly #ports: readonly AhciPort[];
  readonly #file: HbaFile;
  #line: InterruptLine = { set: () => undefined };
  #lineAsserted = false;
  /** Bits of IS for which a message was sent and which the driver has not cleared. */
  #signalled = 0;
  #resetting: Promise<void> | undefined;

  constructor(options: AhciOptions) {
    const { ports, memory } = options;
    if (!(ports >= 1 && ports <= maxPorts)) throw new RangeError(`an adapter has 1 to ${maxPorts} ports, not ${ports}`);
    this.base = options.base;
    this.#file = { ghc: 0, is: 0, ports: ports === maxPorts ? 0xffffffff : 2 ** ports - 1 };
    const context = {
      memory,
      steps: options.steps ?? new Steps(),
      log: new ThrottledLogger(options.log ?? silent),
      attribute: options.attribute ?? (() => undefined),
      onCommand: options.onCommand ?? (() => undefined),
      changed: () => this.#updateInterrupt(),
      counts: this.counts,
    };
    this.#ports = Array.from({ length: ports }, (_, index) => new AhciPort(`ahci port ${index}`, context));
  }

  /** Connects the interrupt line that the board assigned. */
  connect(line: InterruptLine): void {
    this.#line = line;
  }

  /** Connects a device to a port, before the guest runs or while it runs (hot plug). */
  plug(port: number, device: SataDevice): void {
    this.#port(port).plug(device);
  }

  /**
   * Disconnects the device of a port.
   * @returns the device, or undefined if there was none
   */
  unplug(port: number): SataDevice | undefined {
    return this.#port(port).unplug();
  }

  issuesCommand(offset: number): boolean {
    return offset >= portsStart && (offset - portsStart) % portSize === PortRegister.ci;
  }

  read(offset: number, size: number): number {
    const dword = this.#readDword(offset & ~3);
    if (size === 4) return offset % 4 === 0 ? dword : 0;
    return (dword >>> (8 * (offset & 3))) & (size === 1 ? 0xff : 0xffff);
  }

  write(offset: number, size: number, value: number, trap?: Trap): void {
    if (offset % size !== 0) return; // §3: no access crosses a register
    const shift = 8 * (offset & 3);
    const mask = size === 4 ? -1 : (size === 1 ? 0xff : 0xffff) << shift;
    const at = offset & ~3;
    if (at < portsStart) return this.#writeHba(at, value << shift, mask);
    if (this.#resetting) return;
    this.#portAt(at)?.write((at - portsStart) % portSize, value << shift, mask, trap);
  }

  /** Stops fetching commands and waits until none is in flight, for a snapshot. */
  async pause(): Promise<void> {
    const ports = this.#ports.map((port) => port.pause());
    await this.#resetting;
    await Promise.all(ports);
  }

  /** Resumes fetching after {@link pause}. */
  resume(): void {
    for (const port of this.#ports) port.resume();
  }

  /** Registers, ports and their devices, for a snapshot. Only while paused. */
  save(): AhciState {
    return { ghc: this.#file.ghc, is: this.#file.is, ports: this.#ports.map((port) => port.save()) };
  }

  /**
   * Restores a saved state and sets the interrupt line accordingly. Only before the guest runs.
   * @throws StateFault if it cannot have been saved
   */
  restore(state: AhciState): void {
    const { ghc, is } = this.#file;
    checkLike({ ghc, is, ports: [] }, state, highestRegister);
    this.#file.ghc = state.ghc;
    this.#file.is = state.is;
    this.#ports.forEach((port, index) => {
      const saved = state.ports[index];
      if (saved) port.restore(saved);
    });
    this.#updateInterrupt();
  }

  #readDword(offset: number): number {
    if (offset < portsStart) return readHba(this.#file, offset);
    return this.#portAt(offset)?.read((offset - portsStart) % portSize) ?? 0;
  }

  #writeHba(offset: number, value: number, mask: number): void {
    switch (writeHba(this.#file, offset, value, mask)) {
      case 'reset':
        return this.#reset();
      case 'interrupt':
        return this.#updateInterrupt(true);
      case 'none':
        return;
    }
  }

  /** §10.4.3: GHC.HR stays 1 until no earlier command can have a later effect. */
  #reset(): void {
    this.#file.ghc = Ghc.reset;
    this.#file.is = 0;
    this.#updateInterrupt();
    // All resets that the driver asks for meanwhile share one wait: with one wait each, a guest
    // could use up the host's memory.
    this.#resetting ??= Promise.all(this.#ports.map((port) => port.resetAll())).then(() => {
      this.#resetting = undefined;
      this.#file.ghc = 0;
      for (const port of this.#ports) port.restart();
    });
  }

  /**
   * §3.1.3, §5.6.4: IS latches the ports that request an interrupt. The line is asserted while IS
   * is not 0 and GHC.IE is set. By message (§2.3), one is sent when a bit of IS is set, and again
   * if bits are left after the driver has written IS or GHC.
   */
  #updateInterrupt(written = false): void {
    if (!this.#resetting) {
      this.#ports.forEach((port, index) => {
        if (port.interrupting) this.#file.is |= 1 << index;
      });
    }
    const { ghc, is } = this.#file;
    const wanted = (ghc & Ghc.interrupts) !== 0 && is !== 0;
    const { messages } = this.#line;
    const news = wanted && (written || (is & ~this.#signalled) !== 0);
    this.#signalled = wanted ? is : 0;
    if (messages?.enabled && news) {
      this.counts.interrupts++;
      messages.signal(0);
    }
    if (wanted === this.#lineAsserted) return;
    this.#lineAsserted = wanted;
    if (wanted && !messages?.enabled) this.counts.interrupts++;
    this.#line.set(wanted);
  }

  #portAt(offset: number): AhciPort | undefined {
    return this.#ports[Math.floor((offset - portsStart) / portSize)];
  }

  #port(index: number): AhciPort {
    const port = this.#ports[index];
    if (!port) throw new RangeError(`the adapter has no port ${index}`);
    return port;
  }
}
