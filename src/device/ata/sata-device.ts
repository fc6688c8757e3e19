/**
 * The interface between a port and the device on it: the Serial ATA transport without its frames.
 */
import type { RequestOptions } from '../../block/device.js';
import type { GuestBuffers } from '../../machine/guest-memory.js';
import { AtaStatus, type ResultFile, type TaskFile } from '../../spec/ata.js';

/** A command for a device. */
export interface DeviceCommand {
  readonly file: TaskFile;
  /** The packet, 16 bytes, if the driver sent one (command PACKET). */
  readonly packet: Uint8Array | undefined;
  /** Command slot, which is also the tag of a queued command. */
  readonly slot: number;
  readonly options: RequestOptions;
  /**
   * Memory for exactly `length` bytes from the device.
   * @throws HostError if the command describes less memory
   */
  toHost(length: number): GuestBuffers;
  /** Like {@link toHost}, but for at most `length` bytes. */
  toHostUpTo(length: number): GuestBuffers;
  /**
   * The `length` bytes that the driver sends.
   * @throws HostError as {@link toHost}
   */
  fromHost(length: number): GuestBuffers;
}

/** The outcome of a command. */
export interface DeviceOutcome {
  /**
   * The transfer protocol. The PIO and packet protocols post a PIO setup FIS; all but `pio-in` end
   * with a register FIS.
   */
  readonly protocol: 'none' | 'dma' | 'pio-in' | 'pio-out' | 'packet-in' | 'packet-out';
  readonly result: ResultFile;
  /** Bytes of data transferred. */
  readonly transferred: number;
}

/** A device on a port. */
export interface SataDevice {
  /** PxSIG after a reset, and the status register that goes with it. */
  readonly signature: number;
  readonly resetStatus: number;
  /** True if `command` belongs to native command queuing (NCQ). */
  isQueued(command: number): boolean;
  /** Executes a command. Rejects only with a HostError, if its data has no memory. */
  execute(command: DeviceCommand): Promise<DeviceOutcome>;
  /**
   * Executes a command synchronously if that needs no waiting. Returns undefined if it cannot; the
   * port then calls {@link execute}, which repeats whatever this call has done.
   */
  executeNow?(command: DeviceCommand): DeviceOutcome | undefined;
  /**
   * Records an error for the queued error log: of a command that the port refused because of queued
   * commands in flight. `queued` is false if the refused command is not a queued one itself.
   */
  queuedError(slot: number, outcome: DeviceOutcome, queued: boolean): void;
  /**
   * Resets the device after COMRESET (`hard`), software reset or DEVICE RESET. No command is in
   * flight.
   */
  reset(hard: boolean): void;
  /** Sets the callback by which the device notifies the host (SATA 3.0 §13.8). */
  attach(notify: () => void): void;
  save(): unknown;
  restore(state: unknown): void;
}

export function failed(outcome: DeviceOutcome): boolean {
  return (outcome.result.status & (AtaStatus.error | AtaStatus.deviceFault)) !== 0;
}
