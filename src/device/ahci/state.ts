/** What a snapshot keeps of the adapter and its ports. Plain data. No command is under way when it is taken. */
import type { PortFile } from './registers.js';

export interface PortState {
  readonly registers: PortFile;
  readonly halted: boolean;
  readonly softReset: boolean;
  readonly signatureUnposted: boolean;
  /** What the device itself keeps; undefined where there is none. */
  readonly device: unknown;
}

export interface AhciState {
  readonly ghc: number;
  readonly is: number;
  readonly ports: readonly PortState[];
}
