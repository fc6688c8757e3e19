/**
 * The v86 engine behind the interface of machine/engine.ts: an x86 processor and PC board in
 * WebAssembly.
 *
 * All code that depends on v86's internals is in this folder. They are untyped and may change with
 * v86's version, which is therefore pinned. This code relies on four facts about them, which
 * docs/notes/engine.md explains under the names in quotes:
 *
 * - "MMIO blocks": MMIO handlers are registered above RAM in blocks of 128 KiB.
 * - "Interrupts and MMIO": an interrupt raised within an MMIO handler crashes the guest's kernel.
 *   Lowering a line there is safe.
 * - "Shared lines": v86 does not OR interrupt lines that share an input: lowering one also lowers
 *   the others.
 * - "Guest memory moves" when the WebAssembly memory grows; old views are then detached.
 */
import { V86 } from 'v86';
import { nextTurn } from '../../../base/turn.js';
import type {
  BootPlace,
  DescriptorRegisters,
  Engine,
  Firmware,
  InterruptLine,
  PciFunction,
  ProtectedModeEntry,
} from '../../engine.js';
import type { GuestMemory } from '../../guest-memory.js';
import { ideSlot, type IdeDisk } from '../../ide-disk.js';
import type { TrapHandler } from '../../trap.js';
import type { FarDrive } from './far-ide-drive.js';
import { IdeBuffer, attachIde, type V86Ide } from './ide.js';
import { V86NetworkCard, type V86Ne2k } from './network-card.js';
import { SerialInput, type V86Uart } from './serial.js';
import { V86Screen, provideImageData, type V86Vga } from './screen.js';

/** The parts of v86's processor object that are used here. */
interface V86Cpu {
  readonly io: {
    mmap_register(
      address: number,
      size: number,
      ...handlers: ((address: number, value: number) => number | void)[]
    ): void;
    port_write8(port: number, value: number): void;
  };
  readonly devices: {
    readonly pci: V86Pci;
    readonly net?: V86Ne2k;
    readonly vga: V86Vga;
    readonly ide?: V86Ide;
    readonly uart0: V86Uart;
  };
  /** Files that the firmware reads through QEMU's fw_cfg interface. */
  readonly option_roms: { readonly name: string; readonly data: Uint8Array }[];
  readonly wasm_memory: WebAssembly.Memory;
  readonly mem8: Uint8Array;
  readonly reg32: Int32Array;
  readonly sreg: Uint16Array;
  readonly segment_offsets: Int32Array;
  readonly segment_limits: Uint32Array;
  readonly segment_is_null: Uint8Array;
  readonly cr: Int32Array;
  readonly flags: Int32Array;
  readonly is_32: Int32Array;
  readonly stack_size_32: Int32Array;
  readonly protected_mode: Int32Array;
  readonly instruction_pointer: Int32Array;
  readonly idtr_offset: Int32Array;
  readonly idtr_size: Int32Array;
  update_state_flags(): void;
  jit_dirty_cache(start: number, end: number): void;
  device_raise_irq(irq: number): void;
  device_lower_irq(irq: number): void;
  reboot_internal(): void;
  /** Address of each interrupt controller's state in `wasm_memory`. */
  get_pic_addr_master(): number;
  get_pic_addr_slave(): number;
}

interface V86Pci {
  readonly device_spaces: (Int32Array | undefined)[];
  readonly isa_bridge_space8: Uint8Array;
  register_device(device: object): void;
  raise_irq(id: number): void;
  lower_irq(id: number): void;
}

interface V86Inner {
  readonly cpu: V86Cpu;
  /** Runs the processor for a while and schedules the next run. */
  do_tick(): void;
  next_tick(ms: number): void;
}

export interface V86Options {
  /** Size of RAM in bytes; a multiple of 1 MiB. */
  readonly memorySize: number;
  /** Location of v86.wasm: a path in Node, a URL in a browser. */
  readonly wasmPath: string;
  readonly trap: TrapHandler;
  /** MAC address of the guest's network card, 6 bytes. Default: the guest has no card. */
  readonly mac?: Uint8Array | undefined;
  /** Content of the ROMs. Default: none; the operating system is entered directly. */
  readonly firmware?: Firmware | undefined;
  /** Disks on v86's IDE controller; at most two. */
  readonly ide?: readonly IdeDisk[] | undefined;
  /**
   * Instead of `ide`: a disk in memory, which v86 serves without our code. For comparisons in
   * benchmarks.
   */
  readonly memoryDisk?: ArrayBuffer | undefined;
  /**
   * Called when the guest has halted for good (interrupts off), asked for a reset, or made the
   * engine fail.
   */
  readonly onEnd?: (why: 'halted' | 'reset' | 'failed') => void;
}

const mmioBlock = 0x20000;
/** The VGA window: guest-physical addresses that are not RAM for devices. */
const vgaStart = 0xa0000;
const vgaEnd = 0xc0000;
/**
 * Interrupt controller inputs for PCI's INTA# to INTD# if no BIOS routes them. The board uses none
 * of these inputs otherwise.
 */
const pirqRouting = [10, 11, 5, 9] as const;

/** Creates the machine, which is then paused. */
export async function createV86(options: V86Options): Promise<Engine> {
  provideImageData();
  const emulator = new V86({
    wasm_path: options.wasmPath,
    memory_size: options.memorySize,
    vga_memory_size: 2 << 20,
    autostart: false,
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
    acpi: false,
    net_device: { type: (options.mac ? 'ne2k' : 'none') as never },
    ...(options.memoryDisk ? { hda: { buffer: options.memoryDisk } } : ideOptions(options.ide ?? [])),
    ...(options.firmware && {
      bios: { buffer: ownBuffer(options.firmware.bios) },
      vga_bios: { buffer: ownBuffer(options.firmware.vgaBios) },
    }),
    // Keep the MAC address of the snapshot's network card.
    preserve_mac_from_state_image: true,
  });
  await new Promise<void>((resolve) => emulator.add_listener('emulator-loaded', () => resolve()));
  return new V86Engine(emulator, options);
}

function ideOptions(disks: readonly IdeDisk[]): object {
  const [hda, hdb] = disks.map((disk) => new IdeBuffer(disk));
  return { ...(hda && { hda }), ...(hdb && { hdb }) };
}

/** Copies the bytes into an ArrayBuffer of their own, as v86 requires. */
function ownBuffer(bytes: Uint8Array): ArrayBuffer {
  return bytes.slice().buffer as ArrayBuffer;
}

class V86Memory implements GuestMemory {
  readonly size: number;
  readonly #cpu: V86Cpu;
  readonly #offset: number;
  #bytes: Uint8Array;

  constructor(cpu: V86Cpu, size: number) {
    this.size = size;
    this.#cpu = cpu;
    this.#offset = cpu.mem8.byteOffset;
    this.#bytes = this.#map();
  }

  view(address: number, length: number): Uint8Array | undefined {
    if (!(address >= 0 && length >= 0 && address + length <= this.size)) return undefined;
    if (address < vgaEnd && address + length > vgaStart) return undefined;
    // When the WebAssembly memory has grown, the old view is detached and has length 0.
    if (this.#bytes.length === 0) this.#bytes = this.#map();
    return this.#bytes.subarray(address, address + length);
  }

  written(address: number, length: number): void {
    this.#cpu.jit_dirty_cache(address, address + length);
  }

  #map(): Uint8Array {
    return new Uint8Array(this.#cpu.wasm_memory.buffer, this.#offset, this.size);
  }
}

/**
 * Thrown to leave the processor immediately when the guest asks for a reset: no further guest
 * instruction may run.
 */
class ResetRequest extends Error {
  override readonly name = 'ResetRequest';
}

class V86Engine implements Engine {
  readonly memory: GuestMemory;
  readonly trap: TrapHandler;
  readonly network: V86NetworkCard | undefined;
  readonly screen: V86Screen;
  readonly #serial: SerialInput;
  readonly #emulator: V86;
  readonly #cpu: V86Cpu;
  readonly #inner: V86Inner;
  readonly #asserted = new Map<number, Set<number>>();
  readonly #blocks = new Set<number>();
  readonly #hasFirmware: boolean;
  readonly #ide: readonly FarDrive[];
  /** Greater than 0 during an exit. */
  #inExit = 0;
  #running = false;

  constructor(emulator: V86, options: V86Options) {
    this.#emulator = emulator;
    this.#inner = (emulator as unknown as { v86: V86Inner }).v86;
    this.#cpu = this.#inner.cpu;
    this.trap = options.trap;
    this.memory = new V86Memory(this.#cpu, options.memorySize);
    this.#hasFirmware = options.firmware !== undefined;
    this.#ide = attachIde(this.#cpu.devices.ide, options.ide ?? [], this.memory);
    this.screen = new V86Screen(this.#cpu.devices.vga);
    this.#serial = new SerialInput(this.#cpu.devices.uart0);
    this.#shareInterruptLines();
    const { net } = this.#cpu.devices;
    if (net && options.mac) {
      const bus = { add_listener: emulator.add_listener.bind(emulator) as never };
      this.network = new V86NetworkCard(net, bus, options.mac, (id) => this.#vectorOf(id));
    }
    emulator.add_listener('cpu-event-halt' as never, () => options.onEnd?.('halted'));
    this.#cpu.reboot_internal = () => {
      throw new ResetRequest();
    };
    this.#endOnExceptions((why) => options.onEnd?.(why));
  }

  addPci(device: PciFunction): InterruptLine {
    const id = device.slot << 3;
    this.#cpu.devices.pci.register_device({
      pci_id: id,
      pci_space: [...device.config.subarray(0, 256)],
      pci_bars: Array.from({ length: 6 }, (_, bar) =>
        bar === (device.barIndex ?? 0) ? { size: device.barSize } : undefined,
      ),
      name: device.name,
    });
    this.#guard(device.barBase, device.barSize);
    let wanted = false;
    return {
      set: (asserted) => {
        wanted = asserted;
        if (!asserted) return this.#cpu.devices.pci.lower_irq(id);
        if (this.#inExit === 0) return this.#cpu.devices.pci.raise_irq(id);
        nextTurn(() => {
          if (wanted) this.#cpu.devices.pci.raise_irq(id);
        });
      },
    };
  }

  enter(entry: ProtectedModeEntry): void {
    const cpu = this.#cpu;
    this.#routeInterrupts();
    cpu.cr[0] = 0x11; // PE, ET: protected mode, paging off
    cpu.protected_mode[0] = 1;
    cpu.flags[0] = 2; // interrupts off
    cpu.is_32[0] = 1;
    cpu.stack_size_32[0] = 1;
    for (let segment = 0; segment < 6; segment++) {
      cpu.segment_is_null[segment] = 0;
      cpu.segment_offsets[segment] = 0;
      cpu.segment_limits[segment] = 0xffffffff;
      cpu.sreg[segment] = segment === 1 ? 0x10 : 0x18; // x86 boot protocol: __BOOT_CS, __BOOT_DS
    }
    cpu.reg32.fill(0);
    cpu.reg32[4] = entry.esp;
    cpu.reg32[6] = entry.esi;
    cpu.instruction_pointer[0] = entry.instructionPointer;
    cpu.update_state_flags();
  }

  enterFirmware(order: readonly BootPlace[]): void {
    if (!this.#hasFirmware) throw new Error('the computer has no firmware');
    const file = (name: string, data: Uint8Array) => this.#cpu.option_roms.push({ name, data });
    // SeaBIOS, docs/Runtime_config: boot order by Open Firmware paths, and no boot menu, because it
    // would wait for a key.
    const paths = order.map(({ slot, port, unit = 0 }) => {
      const adapter = `/pci@i0cf8/pci@${slot.toString(16)}`;
      return port === undefined ? adapter : `${adapter}/drive@${port.toString(16)}/disk@${unit}`;
    });
    file('bootorder', new TextEncoder().encode(`${paths.join('\n')}\n\0`));
    file('etc/show-boot-menu', new Uint8Array(8));
  }

  descriptors(): DescriptorRegisters {
    const { idtr_offset, idtr_size, cr } = this.#cpu;
    return {
      idtBase: idtr_offset[0]! >>> 0,
      idtLimit: idtr_size[0]! & 0xffff,
      cr0: cr[0]! >>> 0,
      cr3: cr[3]! >>> 0,
      cr4: cr[4]! >>> 0,
    };
  }

  start(): void {
    this.#running = true;
    void this.#emulator.run();
  }

  async pause(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    const stopped = this.#emulator.stop();
    // A halted processor sleeps on a timer. Wake it so that it notices the stop.
    this.#inner.next_tick(0);
    await stopped;
  }

  async saveState(): Promise<Uint8Array> {
    for (const drive of this.#ide) await drive.idle();
    return new Uint8Array(await this.#emulator.save_state());
  }

  async restoreState(state: Uint8Array): Promise<void> {
    const own = state.byteOffset === 0 && state.byteLength === state.buffer.byteLength ? state : state.slice();
    await this.#emulator.restore_state(own.buffer as ArrayBuffer);
    for (const set of this.#asserted.values()) set.clear();
  }

  onSerial(receive: (byte: number) => void): void {
    this.#emulator.add_listener('serial0-output-byte', receive as never);
  }

  sendSerial(bytes: Uint8Array): Promise<void> {
    return this.#serial.send(bytes);
  }

  sendKeys(codes: readonly number[]): void {
    void this.#emulator.keyboard_send_scancodes([...codes]);
  }

  async stop(): Promise<void> {
    this.#serial.close();
    await this.pause();
    await this.#emulator.destroy();
  }

  /**
   * An exception in the processor ends only the guest: a reset within its instruction, or a panic
   * of v86.
   */
  #endOnExceptions(onEnd: (why: 'reset' | 'failed') => void): void {
    const tick = this.#inner.do_tick.bind(this.#inner);
    this.#inner.do_tick = () => {
      try {
        tick();
      } catch (error) {
        nextTurn(() => onEnd(error instanceof ResetRequest ? 'reset' : 'failed'));
      }
    };
  }

  /** Sends the exits of every 128 KiB block that overlaps [base, base + size) to the trap. */
  #guard(base: number, size: number): void {
    const read = (bytes: number) => (address: number) => {
      this.#inExit++;
      try {
        return this.trap.read(address >>> 0, bytes) | 0;
      } finally {
        this.#inExit--;
      }
    };
    const write = (bytes: number) => (address: number, value: number) => {
      this.#inExit++;
      try {
        this.trap.write(address >>> 0, bytes, bytes === 4 ? value >>> 0 : value);
      } finally {
        this.#inExit--;
      }
    };
    for (let block = base - (base % mmioBlock); block < base + size; block += mmioBlock) {
      if (this.#blocks.has(block)) continue;
      this.#blocks.add(block);
      this.#cpu.io.mmap_register(block | 0, mmioBlock, read(1), write(1), read(4), write(4));
    }
  }

  /** The interrupt controller input that a PCI function's line is routed to. */
  #inputOf(id: number): number {
    const { pci } = this.#cpu.devices;
    const pin = ((pci.device_spaces[id]![0x3c >>> 2]! >> 8) & 0xff) - 1;
    return pci.isa_bridge_space8[0x60 + ((pin + (id >> 3) - 1) & 3)]!;
  }

  /**
   * The vector that the operating system has assigned to a function's input (8259A, ICW2);
   * undefined until it has.
   */
  #vectorOf(id: number): number | undefined {
    const input = this.#inputOf(id);
    const at = input < 8 ? this.#cpu.get_pic_addr_master() : this.#cpu.get_pic_addr_slave();
    // The second byte of v86's state of the controller is the first of its eight vectors.
    const first = new Uint8Array(this.#cpu.wasm_memory.buffer, at, 2)[1]!;
    return first === 0 ? undefined : first + (input & 7);
  }

  /**
   * ORs level-triggered lines that share an input. v86 by itself lowers the input when any of them
   * is deasserted.
   */
  #shareInterruptLines(): void {
    const { pci } = this.#cpu.devices;
    pci.raise_irq = (id) => {
      const irq = this.#inputOf(id);
      const lines = this.#asserted.get(irq) ?? new Set();
      this.#asserted.set(irq, lines.add(id));
      this.#cpu.device_raise_irq(irq);
    };
    pci.lower_irq = (id) => {
      const irq = this.#inputOf(id);
      const lines = this.#asserted.get(irq);
      lines?.delete(id);
      if (!lines?.size) this.#cpu.device_lower_irq(irq);
    };
  }

  /**
   * Sets up PCI interrupts as a BIOS would on this board (82371SB, PIRQRC at 60h): routing, level
   * triggering, interrupt line registers.
   */
  #routeInterrupts(): void {
    const { pci } = this.#cpu.devices;
    pirqRouting.forEach((irq, i) => (pci.isa_bridge_space8[0x60 + i] = irq));
    const elcr = pirqRouting.reduce((bits, irq) => bits | (1 << irq), 0);
    this.#cpu.io.port_write8(0x4d0, elcr & 0xff);
    this.#cpu.io.port_write8(0x4d1, elcr >> 8);
    // 82371SB, IDETIM at 40h and 42h: enable both IDE channels.
    const ide = pci.device_spaces[ideSlot << 3];
    if (ide) ide[0x40 >>> 2] = 0x80008000 | 0;
    pci.device_spaces.forEach((space, id) => {
      const pin = space ? (space[0x3c >>> 2]! >> 8) & 0xff : 0;
      if (!space || pin === 0) return;
      const irq = pirqRouting[(pin - 1 + (id >> 3) - 1) & 3]!;
      space[0x3c >>> 2] = (space[0x3c >>> 2]! & ~0xff) | irq;
    });
  }
}
