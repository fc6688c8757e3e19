/**
 * A minimal AHCI driver for tests. It knows the specification and does only what the test tells it.
 */
import { AhciController, barIndex, type AhciOptions } from '../../src/device/ahci/controller.js';
import { AtaCommand } from '../../src/spec/ata.js';
import { HbaRegister, PortRegister, ReceivedFis, portSize, portsStart } from '../../src/spec/ahci.js';
import type { SataDevice } from '../../src/device/ata/sata-device.js';
import { putOnBoard, type DriverRegisters } from './driver-board.js';
import { driverMemory } from './guest-memory.js';
import { nextIteration } from './event-loop.js';

/** An ATA command, as a test states it. */
export interface DriverCommand {
  readonly command: number;
  readonly lba?: number;
  readonly count?: number;
  readonly features?: number;
  /** Device register. Default: 0x40, LBA addressing. */
  readonly device?: number;
  /** The command packet, for PACKET. */
  readonly packet?: readonly number[];
  /** The data buffers: address and length in bytes of each descriptor. */
  readonly prdt?: readonly (readonly [address: number, length: number])[];
  readonly write?: boolean;
  /** Bits to set in the command header's first dword, besides the usual ones. */
  readonly header?: number;
  /** Device control byte of a register FIS with C = 0. */
  readonly control?: number;
}

export interface AtaResult {
  readonly status: number;
  readonly error: number;
  /** PxIS bits that were seen until the command ended. */
  readonly interrupts: number;
  /** PRDBC, the number of bytes transferred. */
  readonly transferred: number;
}

export const testAtaIdentity = {
  serial: 'TEST0001',
  model: 'Test Disk',
  firmware: '1.0',
  worldWideName: Uint8Array.of(0x31, 1, 2, 3, 4, 5, 6, 7),
};

interface Port {
  readonly list: number;
  readonly fis: number;
  readonly tables: number;
}

/** Length of a command table, in bytes: room for 512 descriptors. */
const tableSize = 0x80 + 512 * 16;
/** Time limit of one command, in ms. It allows for a reconnection to a far drive. */
const endMs = 20_000;

export class AhciDriver {
  readonly memory = driverMemory(16 << 20);
  readonly controller: AhciController;
  readonly #registers: DriverRegisters;
  /** Level of the interrupt line, and the number of rising edges. */
  line = false;
  interrupts = 0;
  /** Number of register accesses. */
  accesses = 0;
  readonly #ports: Port[] = [];

  /** Number of messages, if the board has them; they are switched on. */
  messages = 0;

  constructor(devices: readonly (SataDevice | undefined)[], options: Partial<AhciOptions> = {}, byMessage = false) {
    this.controller = new AhciController({
      base: 0xfe000000,
      memory: this.memory,
      ports: devices.length,
      ...options,
    });
    this.#registers = putOnBoard(this.controller, { barIndex, msi: true });
    const signal = () => void this.messages++;
    this.controller.connect({
      set: (asserted) => {
        if (asserted && !this.line) this.interrupts++;
        this.line = asserted;
      },
      ...(byMessage && {
        messages: this.#registers.messages?.(signal) ?? { enabled: true, signal, processorVector: () => undefined },
      }),
    });
    devices.forEach((device, port) => device && this.controller.plug(port, device));
  }

  /** Allocates page-aligned memory for the driver. */
  allocate(length: number): number {
    return this.memory.allocate(length);
  }

  read(offset: number): number {
    this.accesses++;
    return this.#registers.read(offset, 4) >>> 0;
  }

  write(offset: number, value: number): void {
    this.accesses++;
    this.#registers.write(offset, 4, value >>> 0);
  }

  port(register: keyof typeof PortRegister, port = 0): number {
    return this.read(portsStart + port * portSize + PortRegister[register]);
  }

  setPort(register: keyof typeof PortRegister, value: number, port = 0): void {
    this.write(portsStart + port * portSize + PortRegister[register], value);
  }

  /** Waits until a port's register has `value` in the bits of `mask`. */
  async waitPort(register: keyof typeof PortRegister, mask: number, value: number, port = 0): Promise<void> {
    for (let i = 0; i < 20_000; i++) {
      if (((this.port(register, port) ^ value) & mask) === 0) return;
      await nextIteration();
    }
    throw new Error(
      `${register} did not become 0x${value.toString(16)}: it is 0x${this.port(register, port).toString(16)}`,
    );
  }

  /**
   * Prepares a port as a driver does before the first command: memory, FIS receive, command list,
   * interrupts.
   */
  async start(port = 0): Promise<void> {
    this.write(HbaRegister.ghc, 0x80000002);
    this.#ports[port] ??= {
      list: this.allocate(1024),
      fis: this.allocate(256),
      tables: this.allocate(32 * tableSize),
    };
    const { list, fis } = this.#ports[port];
    this.setPort('clb', list % 2 ** 32, port);
    this.setPort('clbu', Math.floor(list / 2 ** 32), port);
    this.setPort('fb', fis % 2 ** 32, port);
    this.setPort('fbu', Math.floor(fis / 2 ** 32), port);
    this.setPort('serr', 0xffffffff, port);
    this.setPort('is', 0xffffffff, port);
    this.setPort('ie', 0xfdc000ff, port);
    this.setPort('cmd', 0x10, port);
    await this.waitPort('tfd', 0x88, 0, port);
    this.setPort('cmd', 0x11, port);
    await this.waitPort('cmd', 0xc000, 0xc000, port);
  }

  /** Clears ST and waits until CR is clear. */
  async stop(port = 0): Promise<void> {
    this.setPort('cmd', 0x10, port);
    await this.waitPort('cmd', 0x8000, 0, port);
  }

  /** Sends COMRESET by PxSCTL.DET, then starts the port. */
  async reset(port = 0): Promise<void> {
    await this.stop(port);
    this.setPort('sctl', 0x301, port);
    this.setPort('sctl', 0x300, port);
    await this.waitPort('ssts', 0xf, 3, port);
    await this.start(port);
  }

  /** The memory for received frames. */
  frame(kind: keyof typeof ReceivedFis, port = 0): Uint8Array {
    return this.memory.at(this.#ports[port]!.fis + ReceivedFis[kind], 32);
  }

  /** The addresses of a slot's command header and command table. */
  places(slot: number, port = 0): { header: number; table: number } {
    const { list, tables } = this.#ports[port]!;
    return { header: list + slot * 32, table: tables + slot * tableSize };
  }

  /** Writes the header and the table of a slot. */
  prepare(slot: number, command: DriverCommand, port = 0): void {
    const { header, table } = this.places(slot, port);
    const { lba = 0, count = 0, features = 0, device = 0x40, packet, prdt = [] } = command;
    const flags = (command.write ? 1 << 6 : 0) | (packet ? 1 << 5 : 0) | (command.header ?? 0);
    const head = this.memory.data(header, 32);
    head.setUint32(0, (5 | flags | (prdt.length << 16)) >>> 0, true);
    head.setUint32(4, 0, true);
    head.setBigUint64(8, BigInt(table), true);
    const high = Math.floor(lba / 0x1000000);
    const fis = this.memory.at(table, 0x80).fill(0);
    fis.set([0x27, command.control === undefined ? 0x80 : 0, command.command, features & 0xff]);
    fis.set([lba & 0xff, (lba >> 8) & 0xff, (lba >> 16) & 0xff, device], 4);
    fis.set([high & 0xff, (high >> 8) & 0xff, (high >> 16) & 0xff, features >> 8], 8);
    fis.set([count & 0xff, count >> 8, 0, command.control ?? 0], 12);
    if (packet) fis.set(packet, 0x40);
    prdt.forEach(([address, length], i) => {
      const entry = this.memory.data(table + 0x80 + i * 16, 16);
      entry.setBigUint64(0, BigInt(address), true);
      entry.setUint32(12, length - 1, true);
    });
  }

  /** Issues a non-queued command and waits until its PxCI bit is clear or an error is reported. */
  async run(command: DriverCommand, { slot = 0, port = 0 } = {}): Promise<AtaResult> {
    this.prepare(slot, command, port);
    this.setPort('ci', 1 << slot, port);
    return this.end(slot, port);
  }

  /** Waits until the command in a slot has ended, and acknowledges the interrupt. */
  async end(slot = 0, port = 0): Promise<AtaResult> {
    await this.waitEnd(slot, port);
    return this.acknowledge(slot, port);
  }

  /**
   * Waits until the slot's bits of PxCI and PxSACT are clear, or an error is reported.
   * @throws Error if neither happens
   */
  async waitEnd(slot = 0, port = 0): Promise<void> {
    const fatal = 0x7d000000;
    for (const until = performance.now() + endMs; performance.now() < until;) {
      if (this.port('is', port) & fatal) return;
      if (!((this.port('ci', port) | this.port('sact', port)) & (1 << slot))) return;
      await nextIteration();
    }
    throw new Error(`the command in slot ${slot} did not end`);
  }

  acknowledge(slot = 0, port = 0): AtaResult {
    const interrupts = this.port('is', port);
    const tfd = this.port('tfd', port);
    this.setPort('is', interrupts, port);
    this.write(HbaRegister.is, 1 << port);
    const transferred = this.memory.data(this.places(slot, port).header, 32).getUint32(4, true);
    return { status: tfd & 0xff, error: tfd >> 8, interrupts, transferred };
  }

  /** Issues a queued command. */
  queue(slot: number, command: DriverCommand, port = 0): void {
    this.prepare(slot, { ...command, count: slot << 3 }, port);
    this.setPort('sact', 1 << slot, port);
    this.setPort('ci', 1 << slot, port);
  }

  /** Waits until the queued commands of `slots` (bits) have ended. */
  async queuedEnd(slots: number, port = 0): Promise<AtaResult> {
    for (const until = performance.now() + endMs; performance.now() < until;) {
      if (!(this.port('sact', port) & slots) || this.port('is', port) & 0x7d000000) break;
      await nextIteration();
    }
    return this.acknowledge(0, port);
  }

  /** IDENTIFY DEVICE or IDENTIFY PACKET DEVICE. */
  async identify(command: number = AtaCommand.identify, port = 0): Promise<DataView> {
    const at = this.allocate(512);
    const { status } = await this.run({ command, prdt: [[at, 512]] }, { port });
    if (status & 1) throw new Error(`identify: status 0x${status.toString(16)}`);
    return this.memory.data(at, 512);
  }

  /** A packet command with data to the host, by DMA. */
  async packet(
    packet: readonly number[],
    length = 0,
    { port = 0, write = false, at = this.allocate(length || 1) } = {},
  ) {
    const prdt: [number, number][] = length > 0 ? [[at, length]] : [];
    const result = await this.run(
      { command: AtaCommand.packet, features: length > 0 ? 1 : 0, packet, prdt, write },
      { port },
    );
    if (result.status & 1) await this.restart(port);
    return {
      ...result,
      data: this.memory.at(at, result.transferred),
      sense: result.status & 1 ? result.error >> 4 : 0,
    };
  }

  /** Recovers from a task file error as a driver does (§6.2.2.1): stops and starts the port. */
  async restart(port = 0): Promise<void> {
    await this.stop(port);
    this.setPort('cmd', 0x11, port);
    await this.waitPort('cmd', 0x8000, 0x8000, port);
  }
}

/** Waits for one iteration of the event loop. */
