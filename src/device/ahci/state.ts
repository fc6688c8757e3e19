/**
 * The part of a snapshot that holds the AHCI adapter and its ports, as plain data. A snapshot is
 * taken only while no command is in flight, so it holds none.
 */
import type { PortFile } from './registers.js';

export interface PortState {
  readonly registers: PortFile;
  readonly halted: boolean;
  readonly softReset: boolean;
  readonly signatureUnposted: boolean;
  /** State that the device itself saves; undefined if there is no device. */
  readonly device: unknown;
}

export interface AhciState {
  readonly ghc: number;
  readonly is: number;
  readonly ports: readonly PortState[];
}
