/**
 * The engine interface: a processor and its board, as the rest of the hypervisor sees them. v86
 * implements it (engines/v86). Devices see only {@link GuestMemory}, {@link InterruptLine} and
 * the trap.
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
}

/**
 * Reason why a guest ended by itself: halted with interrupts off, asked for a reset, or made the
 * engine fail.
 */
export type EngineEnd = 'halted' | 'reset' | 'failed';

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
}

/** Start state of the processor: flat 32-bit protected mode, paging off, interrupts off. */
export interface ProtectedModeEntry {
  readonly instructionPointer: number;
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
  readonly bios: Uint8Array;
  readonly vgaBios: Uint8Array;
}

/** Processor registers for reading the guest's descriptor table ([SYS] steps 301 and 326). */
export interface DescriptorRegisters {
  readonly idtBase: number;
  readonly idtLimit: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
}

export interface Engine {
  readonly memory: GuestMemory;
  /** Handles the exits for guarded addresses. */
  readonly trap: TrapHandler;
  /** The guest's network card; undefined if it has none. */
  readonly network?: NetworkCard | undefined;
  /** Puts a function on the board and guards its BAR. Only before {@link start}. */
  addPci(device: PciFunction): InterruptLine;
  /**
   * Makes the processor start at `entry`, with the board in the state in which a BIOS leaves it.
   */
  enter(entry: ProtectedModeEntry): void;
  /**
   * Leaves the processor at its reset vector, so that the firmware runs first. It boots from
   * the first place of `order` that it can boot from.
   * @throws Error if the engine was created without firmware
   */
  enterFirmware(order: readonly BootPlace[]): void;
  descriptors(): DescriptorRegisters;
  /** Starts the processor, or resumes it after {@link pause}. */
  start(): void;
  /** Stops the processor between two instructions, and resolves when it has stopped. */
  pause(): Promise<void>;
  /**
   * State of processor, memory and board, for a snapshot. Only while paused. Our own devices save
   * their state themselves.
   */
  saveState(): Promise<Uint8Array>;
  /**
   * Restores a saved state. Only while paused.
   * @throws Error if the state is not one of this engine's
   */
  restoreState(state: Uint8Array): Promise<void>;
  /** Calls `receive` with each byte that the guest sends on its first serial port. */
  onSerial(receive: (byte: number) => void): void;
  /**
   * Sends bytes to the guest's first serial port. Resolves when the port has accepted them. Wait
   * for that before sending more: bytes beyond a limit are dropped.
   */
  sendSerial(bytes: Uint8Array): Promise<void>;
  /** The guest's screen. */
  readonly screen: Screen;
  /** Sends codes of scan code set 1 from the guest's keyboard. */
  sendKeys(codes: readonly number[]): void;
  /** Ends the machine and releases its resources. */
  stop(): Promise<void>;
}
