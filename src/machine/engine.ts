/**
 * The engine seam: what a processor and its board are to the rest of the hypervisor. v86 is behind it today
 * (engines/v86.ts), KVM tomorrow. Devices see only {@link GuestMemory}, {@link InterruptLine} and the trap.
 */
import type { GuestMemory } from './guest-memory.js';
import type { NetworkCard } from './network-card.js';
import type { Screen } from './screen.js';
import type { TrapHandler } from './trap.js';

/** A level-triggered interrupt line of one PCI function. Lines that share an input of the interrupt controller are ORed. */
export interface InterruptLine {
  /**
   * Sets the line. Asserting takes effect after the guest's current instruction, never within it; deasserting at once.
   */
  set(asserted: boolean): void;
}

/** A PCI function with one memory BAR, as it is put on the board. */
export interface PciFunction {
  readonly name: string;
  /** Device number on bus 0: 2 to 31. */
  readonly slot: number;
  /** Configuration space, 64 bytes or more (machine/pci.ts). */
  readonly config: Uint8Array;
  /** Which BAR it is; 0 where nothing is said. */
  readonly barIndex?: number;
  /** Guest-physical address and length in bytes of the BAR. */
  readonly barBase: number;
  readonly barSize: number;
}

/** Where a processor starts in flat 32-bit protected mode, paging off, interrupts off. */
export interface ProtectedModeEntry {
  readonly instructionPointer: number;
  readonly esi: number;
  readonly esp: number;
}

/** Where the firmware finds what it boots: a PCI function, and of an adapter with several drives the port. */
export interface BootPlace {
  readonly slot: number;
  readonly port?: number | undefined;
  /** Of two drives on an IDE channel: 1 for the slave. */
  readonly unit?: number | undefined;
}

/** A computer's firmware: what is in its ROMs. */
export interface Firmware {
  readonly bios: Uint8Array;
  readonly vgaBios: Uint8Array;
}

/** What an engine saw of the processor, for [SYS] steps 301 and 326. */
export interface DescriptorRegisters {
  readonly idtBase: number;
  readonly idtLimit: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
}

export interface Engine {
  readonly memory: GuestMemory;
  /** The exits for guarded addresses. */
  readonly trap: TrapHandler;
  /** The guest's network card, where it has one. */
  readonly network?: NetworkCard | undefined;
  /** Puts a function on the board and guards its BAR. Before {@link start} only. */
  addPci(device: PciFunction): InterruptLine;
  /** Sets the processor to start at `entry`, with the board as a BIOS would have left it. */
  enter(entry: ProtectedModeEntry): void;
  /**
   * Leaves the processor at its reset vector: the firmware comes first, and boots what is at `order`, the first of these
   * that it can. @throws Error where the engine was made without firmware.
   */
  enterFirmware(order: readonly BootPlace[]): void;
  descriptors(): DescriptorRegisters;
  /** Runs, or runs on after {@link pause}. */
  start(): void;
  /** Stops the processor between two instructions; resolves when it has stopped. */
  pause(): Promise<void>;
  /** The processor's, memory's and board's state. While paused only. Devices of ours save their own. */
  saveState(): Promise<Uint8Array>;
  /** Takes such a state back. While paused only; throws an Error where the state is not one of this engine's. */
  restoreState(state: Uint8Array): Promise<void>;
  /** Bytes that the guest sends on its first serial port. */
  onSerial(receive: (byte: number) => void): void;
  /**
   * Bytes to the guest's first serial port. Resolves when the port has taken them: a sender of many waits for it, as more
   * than a bounded number that wait are lost.
   */
  sendSerial(bytes: Uint8Array): Promise<void>;
  /** What the guest shows. */
  readonly screen: Screen;
  /** Codes from the guest's keyboard: scan code set 1. */
  sendKeys(codes: readonly number[]): void;
  /** Ends the machine and releases everything. */
  stop(): Promise<void>;
}
