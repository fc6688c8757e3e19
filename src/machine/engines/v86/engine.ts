/**
 * The v86 engine behind the interface of machine/engine.ts: an x86 processor and PC board in
 * WebAssembly.
 *
 * All code that depends on v86's internals is in this folder: the parts of its objects that are
 * used (internals.ts), exits (exits.ts), interrupts (interrupts.ts) and IDE drives (ide.ts).
 */
import type { V86 } from 'v86';
import { nextIteration } from '../../../base/event-loop.js';
import { bootOrder } from '../../boot/boot-order.js';
import type {
  BootPlace,
  DescriptorRegisters,
  Engine,
  EngineEnd,
  EngineSnapshots,
  Firmware,
  IdeController,
  PciConnection,
  PciFunction,
  ProtectedModeEntry,
} from '../../engine.js';
import type { GuestMemory } from '../../guest-memory.js';
import type { IdeDisk } from '../../ide-disk.js';
import type { TrapHandler } from '../../trap.js';
import type { FarDrive } from './far-ide-drive.js';
import { Exits } from './exits.js';
import { IdeBuffer, attachIde } from './ide.js';
import type { V86Cpu, V86Inner } from './internals.js';
import { Interrupts } from './interrupts.js';
import { V86Memory } from './memory.js';
import { V86NetworkCard } from './network-card.js';
import { SerialInput } from './serial.js';
import { V86Screen, provideImageData } from './screen.js';

/** The class of v86's module. */
export type V86Class = new (options: object) => V86;

/** Options of {@link createV86}. */
export interface V86Options {
  /** Size of RAM in bytes; a multiple of 1 MiB. */
  readonly memorySize: number;
  /** Location of v86.wasm: a path in Node, a URL in a browser. */
  readonly wasmPath: string;
  /** Receives the guest's accesses to guarded addresses. */
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
  readonly onEnd?: (why: EngineEnd) => void;
}

/**
 * Creates the machine, which is then paused.
 * @param emulatorClass v86's class, for a caller that has loaded its module itself
 */
export async function createV86With(emulatorClass: V86Class, options: V86Options): Promise<Engine> {
  provideImageData();
  const emulator = new emulatorClass({
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
      ...(options.firmware.vgaBios && { vga_bios: { buffer: ownBuffer(options.firmware.vgaBios) } }),
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
  // `slice` of a Node Buffer copies nothing.
  return new Uint8Array(bytes).buffer;
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
  readonly enterFirmware: Engine['enterFirmware'];
  readonly ide: IdeController;
  readonly snapshots: EngineSnapshots = { save: () => this.#save(), restore: (state) => this.#restore(state) };
  readonly #serial: SerialInput;
  readonly #emulator: V86;
  readonly #cpu: V86Cpu;
  readonly #inner: V86Inner;
  readonly #exits: Exits;
  readonly #interrupts: Interrupts;
  readonly #ide: readonly FarDrive[];
  #running = false;

  constructor(emulator: V86, options: V86Options) {
    this.#emulator = emulator;
    this.#inner = (emulator as unknown as { v86: V86Inner }).v86;
    this.#cpu = this.#inner.cpu;
    this.trap = options.trap;
    this.memory = new V86Memory(this.#cpu, options.memorySize);
    this.#interrupts = new Interrupts(this.#cpu);
    this.#exits = new Exits(this.#cpu, options.trap, () => this.#interrupts.written());
    if (options.firmware) this.enterFirmware = (order) => this.#enterFirmware(order);
    this.ide = { disks: options.ide?.length ?? 0 };
    this.#ide = attachIde(this.#cpu.devices.ide, options.ide ?? [], this.memory);
    const { bus } = emulator as unknown as { bus: { send(event: string, data: unknown): void } };
    this.screen = new V86Screen(
      this.#cpu.devices.vga,
      (codes) => void emulator.keyboard_send_scancodes([...codes]),
      (event, data) => bus.send(event, data),
    );
    this.#serial = new SerialInput(this.#cpu.devices.uart0);
    const { net } = this.#cpu.devices;
    if (net && options.mac) {
      const bus = { add_listener: emulator.add_listener.bind(emulator) as never };
      this.network = new V86NetworkCard(net, bus, options.mac, (id) => this.#interrupts.vectorOf(id));
    }
    emulator.add_listener('cpu-event-halt' as never, () => options.onEnd?.('halted'));
    takeTurns(this.#inner);
    this.#cpu.reboot_internal = () => {
      throw new ResetRequest();
    };
    this.#endOnExceptions((why) => options.onEnd?.(why));
  }

  addPci(device: PciFunction): PciConnection {
    const id = device.slot << 3;
    this.#cpu.devices.pci.register_device({
      pci_id: id,
      pci_space: [...device.config.subarray(0, 256)],
      pci_bars: Array.from({ length: 6 }, (_, bar) =>
        bar === (device.barIndex ?? 0) ? { size: device.barSize } : undefined,
      ),
      name: device.name,
    });
    this.#exits.guard(device.barBase, device.barSize);
    return this.#interrupts.line(id, this.#exits);
  }

  enter(entry: ProtectedModeEntry): void {
    const cpu = this.#cpu;
    this.#interrupts.route();
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

  #enterFirmware(order: readonly BootPlace[]): void {
    const file = (name: string, data: Uint8Array) => this.#cpu.option_roms.push({ name, data });
    file('bootorder', bootOrder(order));
    // SeaBIOS, docs/Runtime_config.md: no boot menu, because it would wait for a key.
    file('etc/show-boot-menu', new Uint8Array(8));
  }

  descriptors(): DescriptorRegisters {
    const { idtr_offset, idtr_size, cr } = this.#cpu;
    return {
      idtBase: BigInt(idtr_offset[0]! >>> 0),
      idtLimit: idtr_size[0]! & 0xffff,
      cr0: cr[0]! >>> 0,
      cr3: cr[3]! >>> 0,
      cr4: cr[4]! >>> 0,
      efer: 0,
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

  async #save(): Promise<Uint8Array> {
    for (const drive of this.#ide) await drive.idle();
    return new Uint8Array(await this.#emulator.save_state());
  }

  async #restore(state: Uint8Array): Promise<void> {
    const isWhole = state.byteOffset === 0 && state.byteLength === state.buffer.byteLength;
    await this.#emulator.restore_state(isWhole ? (state.buffer as ArrayBuffer) : ownBuffer(state));
    this.#interrupts.forget();
  }

  onSerial(receive: (byte: number) => void): void {
    this.#emulator.add_listener('serial0-output-byte', receive as never);
  }

  sendSerial(bytes: Uint8Array): Promise<void> {
    return this.#serial.send(bytes);
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
        nextIteration(() => onEnd(error instanceof ResetRequest ? 'reset' : 'failed'));
      }
    };
  }
}

/**
 * Without setImmediate, v86 yields to the event loop by a worker of its own from a Blob, which a
 * strict Content-Security-Policy refuses, or by a timer, which a browser delays by 4 ms. A message
 * to itself has neither fault.
 */
function takeTurns(inner: V86Inner): void {
  if ('setImmediate' in globalThis) return;
  inner.yield = (ms, tick) => {
    const go = (): void => inner.yield_callback(tick);
    if (ms < 1) nextIteration(go);
    else setTimeout(go, ms);
  };
}
