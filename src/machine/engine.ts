/**
 * The engine interface: processors and their board, as the rest of the hypervisor sees them. v86
 * (engines/v86) and KVM (engines/kvm) implement it. Devices see only {@link GuestMemory},
 * {@link InterruptLine} and the trap, and run on the event loop.
 *
 * An engine must:
 * - give devices the guest's memory, and check there that every address is RAM;
 * - map nothing at the BARs of our functions, and call the trap for each access to them, in the
 *   order in which a processor makes them. The processor waits: a read for its value, a write until
 *   the device has taken it. An engine whose processors run on other threads waits there, not on
 *   the event loop. The trap knows accesses of 1, 2 and 4 bytes; the engine makes one of 8 bytes
 *   into two of 4, the lower address first, which NVMe 1.4 §3.1 permits;
 * - OR interrupt lines that share an input, and let devices set them within an exit;
 * - report each end of the guest once (its `onEnd`), and then run no further instruction;
 * - stop its processors between two instructions to pause, with no access under the trap.
 *
 * The rest are facets, undefined if the engine does not offer them: firmware, the screen with its
 * keyboard, the network card, the IDE controller, snapshots, write events. ARCHITECTURE.md,
 * "Where to add things", says what a new engine needs.
 */
import type { GuestMemory } from './guest-memory.js';
import type { NetworkCard } from './network-card.js';
import type { Screen } from './screen.js';
import type { TrapHandler } from './trap.js';

/**
 * The level-triggered interrupt line of one PCI function. Lines that share an input of the
 * interrupt controller are ORed.
 */
export interface InterruptLine {
  /**
   * Sets the level of the line. Asserting takes effect after the guest's current instruction,
   * deasserting immediately.
   */
  set(asserted: boolean): void;
  /** The function's MSI or MSI-X messages; undefined if the engine or the function has none. */
  readonly messages?: MessageInterrupts | undefined;
}

/** A function's connection to the board. */
export interface PciConnection extends InterruptLine {
  /** Undefined if the engine has none: then every write comes to the trap. */
  readonly writeEvents?: WriteEvents | undefined;
}

/**
 * Writes to registers whose value does not matter, because the guest leaves it in its memory too
 * (NVMe's shadow doorbells). The processor does not wait for the device.
 */
export interface WriteEvents {
  /**
   * From now on, writes at these offsets of the BAR do not come to the trap. Instead `told` is
   * called on the event loop, once for all writes since its last call. Replaces the offsets of an
   * earlier call; without offsets, all writes come to the trap again. The engine may leave some
   * offsets to the trap.
   */
  watch(offsets: readonly number[], told: () => void): void;
}

/** Interrupts by message instead of by line (PCI Local Bus 3.0, §6.8). */
export interface MessageInterrupts {
  /**
   * True while the guest has switched them on. The engine then keeps the line from the guest, but
   * devices set it all the same: the guest may switch the messages off.
   */
  readonly enabled: boolean;
  /** Raises the interrupt of a vector once; 0 for MSI. */
  signal(vector: number): void;
  /** The processor's vector for it; undefined while the guest has set up none. */
  processorVector(vector: number): number | undefined;
}

/** Place of a function's MSI-X structures in its BAR: offsets in bytes, multiples of 8. */
export interface MsixPlace {
  readonly vectors: number;
  readonly tableOffset: number;
  readonly pendingOffset: number;
}

/**
 * Reason why a guest ended by itself: halted with interrupts off, asked for a reset, made a triple
 * fault (an exception whose handling fails twice, after which a processor stops), or made the
 * engine fail. v86 reports a triple fault as `failed`.
 */
export type EngineEnd = 'halted' | 'reset' | 'tripleFault' | 'failed';

/** A PCI function with one memory BAR, to be put on the board. */
export interface PciFunction {
  readonly name: string;
  /** Device number on bus 0: 2 to 31. */
  readonly slot: number;
  /** Configuration space, 64 bytes or more (machine/pci.ts). */
  readonly config: Uint8Array;
  /** Number of the BAR; default 0. */
  readonly barIndex?: number;
  /** Guest-physical address and size in bytes of the BAR. */
  readonly barBase: number;
  readonly barSize: number;
  /** Default: the function has no MSI-X. */
  readonly msix?: MsixPlace | undefined;
  /** True for MSI with one message. Default: none. Engines without messages ignore both. */
  readonly msi?: boolean | undefined;
}

/** Start state of the processor: flat 32-bit protected mode, paging off, interrupts off. */
export interface ProtectedModeEntry {
  readonly instructionPointer: number;
  /** Default: 0. */
  readonly ebx?: number;
  readonly esi: number;
  readonly esp: number;
}

/**
 * A boot device for the firmware: a PCI function, and the port if the function is an adapter with
 * several drives.
 */
export interface BootPlace {
  readonly slot: number;
  readonly port?: number | undefined;
  /** On an IDE channel: 0 for the master, 1 for the slave. */
  readonly unit?: number | undefined;
}

/** A computer's firmware: the content of its ROMs. */
export interface Firmware {
  /** The content of the system's ROM. */
  readonly bios: Uint8Array;
  /** The content of the display's ROM. Default: none; only for an engine without a screen. */
  readonly vgaBios?: Uint8Array | undefined;
  /** The flash in which UEFI keeps its variables. Default: none; only on KVM. */
  readonly variables?: FirmwareVariables | undefined;
}

/** The flash with the variables of UEFI firmware. */
export interface FirmwareVariables {
  /** Content at the start. */
  readonly content: Uint8Array;
  /** Called after each change. The content goes on changing. */
  changed(content: Uint8Array): void;
}

/** Processor registers for reading the guest's descriptor table ([SYS] steps 301 and 326). */
export interface DescriptorRegisters {
  /** Linear address. */
  readonly idtBase: bigint;
  readonly idtLimit: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  /** Extended features; 0 for a 32-bit processor. */
  readonly efer: number;
}

/** Snapshots of an engine. Both calls only while it is paused. */
export interface EngineSnapshots {
  /**
   * Engine, version of its states and number of processors: a state of another kind cannot be
   * restored. Default: the version of v86.
   */
  readonly kind?: string | undefined;
  /** State of processors, memory and board. Our own devices save their state themselves. */
  save(): Promise<Uint8Array>;
  /**
   * @throws SnapshotError if the state is not one of this engine's, or of another processor; then
   *   nothing has changed. Another Error if the machine is of no use afterwards.
   */
  restore(state: Uint8Array): Promise<void>;
}

/** The IDE controller of an engine's board. */
export interface IdeController {
  /** The disks on it, which the engine was created with. */
  readonly disks: number;
}

/** Number of exits to this process so far, by reason. */
export interface EngineExits {
  /** Accesses to guarded addresses. */
  readonly memory: number;
  /** Accesses to I/O ports: those that the main thread answers, and those that another one does. */
  readonly port: number;
  readonly quickPort: number;
  readonly other: number;
}

/** An engine: the processor and board that run a guest. The seam between devices and engines. */
export interface Engine {
  /** The guest's memory. */
  readonly memory: GuestMemory;
  /** Handles the exits for guarded addresses. */
  readonly trap: TrapHandler;
  /**
   * The board's own network card; undefined if it has none. The hypervisor then puts one of its own
   * on the board (device/virtio).
   */
  readonly network?: NetworkCard | undefined;
  /** Puts a function on the board and guards its BAR. Only before {@link start}. */
  addPci(device: PciFunction): PciConnection;
  /** Guest-physical address of the ACPI tables' RSDP; undefined if the board has none. */
  readonly acpiRoot?: number | undefined;
  /**
   * Makes the processor start at `entry`, with the board in the state in which a BIOS leaves it.
   */
  enter(entry: ProtectedModeEntry): void;
  /**
   * Leaves the processor at its reset vector, so that the firmware runs first. It boots from
   * the first place of `order` that it can boot from. Undefined if the computer has no firmware.
   */
  readonly enterFirmware?: ((order: readonly BootPlace[]) => void) | undefined;
  /** Undefined if no processor is in an exit, so that none can be read. */
  descriptors(): DescriptorRegisters | undefined;
  /** Starts the processor, or resumes it after {@link pause}. */
  start(): void;
  /** Stops the processor between two instructions, and resolves when it has stopped. */
  pause(): Promise<void>;
  /** Saves and restores the engine's state; undefined if the engine cannot. */
  readonly snapshots?: EngineSnapshots | undefined;
  /** Undefined if the processors do not run outside of this process's code. */
  readonly exits?: EngineExits | undefined;
  /** The board's IDE controller; undefined if it has none. */
  readonly ide?: IdeController | undefined;
  /** Calls `receive` with each byte that the guest sends on its first serial port. */
  onSerial(receive: (byte: number) => void): void;
  /**
   * Sends bytes to the guest's first serial port. Resolves when the port has accepted them. Wait
   * for that before sending more: bytes beyond a limit are dropped.
   */
  sendSerial(bytes: Uint8Array): Promise<void>;
  /** The guest's screen and keyboard; undefined if the board has none. */
  readonly screen?: Screen | undefined;
  /** Ends the machine and releases its resources. */
  stop(): Promise<void>;
}
