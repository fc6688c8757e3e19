/** What a port knows of the device behind it, and a device of the port: the Serial ATA transport between the two, without its frames. */
import type { RequestOptions } from '../../block/device.js';
import type { GuestBuffers } from '../../machine/guest-memory.js';
import { AtaStatus } from './ata-spec.js';
import type { ResultFile, TaskFile } from './fis.js';

/** A command on its way to a device. */
export interface DeviceCommand {
  readonly file: TaskFile;
  /** The packet, 16 bytes, where the driver sent one (PACKET). */
  readonly packet: Uint8Array | undefined;
  /** Slot, which is the tag of a queued command. */
  readonly slot: number;
  readonly options: RequestOptions;
  /** The place of data that the device gives. @throws HostError where it has fewer than `length` bytes or none. */
  toHost(length: number): GuestBuffers;
  /** The same, of at most `length` bytes. */
  toHostUpTo(length: number): GuestBuffers;
  /** The data that the driver gives. @throws HostError as {@link toHost}. */
  fromHost(length: number): GuestBuffers;
}

/** How a command ended. */
export interface Outcome {
  /** How its data went: a PIO setup frame goes with those of PIO, and a register frame ends all but `pio-in`. */
  readonly protocol: 'none' | 'dma' | 'pio-in' | 'pio-out' | 'packet-in' | 'packet-out';
  readonly result: ResultFile;
  /** Bytes of data. */
  readonly transferred: number;
}

/** A device on a port. */
export interface SataDevice {
  /** PxSIG after a reset, and the status that goes with it. */
  readonly signature: number;
  readonly resetStatus: number;
  /** Whether a command is one of native command queuing. */
  isQueued(command: number): boolean;
  /** Carries a command out. Rejects with a HostError, for data without a place, and with nothing else. */
  execute(command: DeviceCommand): Promise<Outcome>;
  /**
   * The same at once, of a command that needs no waiting. An offer, made before {@link execute}: undefined, and nothing has
   * happened that executing it would not do again.
   */
  executeNow?(command: DeviceCommand): Outcome | undefined;
  /** A queued command failed that the port refused, or could not give to the device: for the queued error log. */
  queuedError(slot: number, outcome: Outcome, queued: boolean): void;
  /** After COMRESET (`hard`), software reset or DEVICE RESET; nothing is under way. */
  reset(hard: boolean): void;
  /** Tells the device how it can notify the host (SATA 3.0 §13.8). */
  attach(notify: () => void): void;
  save(): unknown;
  restore(state: unknown): void;
}

export function failed(outcome: Outcome): boolean {
  return (outcome.result.status & (AtaStatus.error | AtaStatus.deviceFault)) !== 0;
}
