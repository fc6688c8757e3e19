/**
 * v86's board with far disks on its IDE controller, and a processor that never runs. A test writes
 * and reads the ports as a guest would. The disks transfer to memory that the test owns.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { V86 } from 'v86';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import type { IdeDisk } from '../../src/machine/ide-disk.js';
import type { FarDrive } from '../../src/machine/engines/v86/far-ide-drive.js';
import { IdeBuffer, attachIde, type V86Ide } from '../../src/machine/engines/v86/ide.js';
import { provideImageData } from '../../src/machine/engines/v86/screen.js';
import { TestMemory } from './guest-memory.js';
import { nextIteration } from './event-loop.js';

interface Ports {
  port_write8(port: number, value: number): void;
  port_write16(port: number, value: number): void;
  port_write32(port: number, value: number): void;
  port_read8(port: number): number;
  port_read16(port: number): number;
  port_read32(port: number): number;
}

/** Registers of the primary channel: command block, control block, bus master. */
export const Port = {
  data: 0x1f0,
  features: 0x1f1,
  count: 0x1f2,
  lbaLow: 0x1f3,
  lbaMid: 0x1f4,
  lbaHigh: 0x1f5,
  device: 0x1f6,
  command: 0x1f7,
  control: 0x3f6,
  busMaster: 0xb400,
  busMasterStatus: 0xb402,
  descriptors: 0xb404,
} as const;

/** The register values of one command. */
export interface IdeTask {
  readonly command: number;
  readonly lba?: number;
  readonly count?: number;
  readonly features?: number;
  readonly slave?: boolean;
  /** True for 48-bit addresses: each register is written twice. */
  readonly wide?: boolean;
}

/** How long a drive may be busy, in ms. Only a drive that hangs takes so long. */
const endMs = 30_000;

export class IdeBoard {
  readonly memory = new TestMemory(4 << 20);
  readonly drives: readonly FarDrive[];
  readonly #emulator: V86;
  readonly #io: Ports;

  private constructor(emulator: V86, disks: readonly IdeDisk[]) {
    this.#emulator = emulator;
    const { cpu } = (emulator as unknown as { v86: { cpu: { io: Ports; devices: { ide?: V86Ide } } } }).v86;
    this.#io = cpu.io;
    this.drives = attachIde(cpu.devices.ide, disks, this.memory);
    this.out(Port.control, 0);
  }

  /** Creates a board with one or two disks: master and slave. */
  static async create(...devices: readonly BlockDevice[]): Promise<IdeBoard> {
    provideImageData();
    const disks = devices.map(ideDisk);
    const [hda, hdb] = disks.map((disk) => new IdeBuffer(disk));
    const options = {
      wasm_path: join(dirname(createRequire(import.meta.url).resolve('v86')), 'v86.wasm'),
      memory_size: 1 << 20,
      vga_memory_size: 1 << 20,
      autostart: false,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      ...(hda && { hda }),
      ...(hdb && { hdb }),
    };
    const emulator = new V86(options as never);
    await new Promise<void>((resolve) => emulator.add_listener('emulator-loaded', () => resolve()));
    return new IdeBoard(emulator, disks);
  }

  out(port: number, value: number, size = 1): void {
    if (size === 1) this.#io.port_write8(port, value & 0xff);
    else if (size === 2) this.#io.port_write16(port, value & 0xffff);
    else this.#io.port_write32(port, value | 0);
  }

  in(port: number, size = 1): number {
    if (size === 1) return this.#io.port_read8(port);
    return size === 2 ? this.#io.port_read16(port) : this.#io.port_read32(port);
  }

  get status(): number {
    return this.in(Port.control);
  }

  issue({ command, lba = 0, count = 1, features = 0, slave = false, wide = false }: IdeTask): void {
    const byte = (shift: number): number => Math.floor(lba / 2 ** shift) & 0xff;
    this.out(Port.device, 0x40 | (slave ? 0x10 : 0) | (wide ? 0 : byte(24) & 0x0f));
    if (wide) {
      for (const [port, value] of [
        [Port.features, features >> 8],
        [Port.count, count >> 8],
        [Port.lbaLow, byte(24)],
        [Port.lbaMid, byte(32)],
        [Port.lbaHigh, byte(40)],
      ] as const) {
        this.out(port, value);
      }
    }
    this.out(Port.features, features);
    this.out(Port.count, count);
    this.out(Port.lbaLow, byte(0));
    this.out(Port.lbaMid, byte(8));
    this.out(Port.lbaHigh, byte(16));
    this.out(Port.command, command);
  }

  /** Writes a PRD table of regions at `at`, and passes its address to the bus master. */
  describe(at: number, regions: readonly (readonly [address: number, length: number])[]): void {
    const table = this.memory.data(at, 8 * regions.length);
    regions.forEach(([address, length], i) => {
      table.setUint32(8 * i, address, true);
      table.setUint16(8 * i + 4, length & 0xffff, true);
      table.setUint16(8 * i + 6, i === regions.length - 1 ? 0x8000 : 0, true);
    });
    this.out(Port.descriptors, at, 4);
  }

  /** Does a driver's part of an issued DMA command: starts the transfer, waits, stops it. */
  async transfer(toMemory: boolean): Promise<number> {
    this.out(Port.busMaster, toMemory ? 9 : 1);
    const status = await this.ended();
    this.out(Port.busMaster, 0);
    return status;
  }

  /** Waits until the selected drive is not busy. Resolves with its status. */
  async ended(): Promise<number> {
    for (const until = performance.now() + endMs; this.status & 0x80;) {
      if (performance.now() > until) throw new Error('the drive is busy for ever');
      await nextIteration();
    }
    return this.status;
  }

  /** Does a software reset as a driver does. */
  async reset(): Promise<void> {
    this.out(Port.control, 4);
    this.out(Port.control, 0);
    this.out(Port.busMaster, 0);
    this.out(Port.busMasterStatus, 6); // Writing the interrupt and error bits clears them.
    for (const slave of [false, true]) {
      this.out(Port.device, slave ? 0x50 : 0x40);
      await this.ended();
    }
  }

  /** Reads `words` words from the data port. */
  read(words: number): Uint8Array {
    const data = new Uint16Array(words).map(() => this.in(Port.data, 2));
    return new Uint8Array(data.buffer);
  }

  write(bytes: Uint8Array): void {
    for (const word of new Uint16Array(bytes.slice().buffer)) this.out(Port.data, word, 2);
  }

  async close(): Promise<void> {
    await this.#emulator.destroy();
  }
}

function ideDisk(device: BlockDevice): IdeDisk {
  const { size, readOnly, can } = device.info;
  return {
    size,
    readOnly,
    writeCache: can.flush,
    identity: {
      serial: 'SERIAL',
      model: 'Model',
      firmware: '1.0',
      worldWideName: Uint8Array.of(0x30, 1, 2, 3, 4, 5, 6, 7),
    },
    read: (offset, into) => device.read(offset, buffersOf(into)),
    write: (offset, from) => device.write(offset, buffersOf(from)),
    flush: () => device.flush(),
  };
}
