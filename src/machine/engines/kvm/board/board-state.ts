/**
 * The board's state as a snapshot holds it, as plain data. Facts that follow from the computer's
 * configuration are not in it: they are those of the computer that continues.
 */
import type { FlashState } from './flash.js';
import type { FwCfgState } from './fw-cfg.js';
import type { KeyboardState } from './i8042.js';
import { Word } from './shared-state.js';

/** Registers among the words of the shared state, and their bits. */
export const registerBits = {
  pciAddress: 0xffffffff,
  cmosIndex: 0x7f,
  portB: 0x3f,
  uartEnable: 0x0f,
  uartLineControl: 0xff,
  uartModemControl: 0x1f,
  uartScratch: 0xff,
  uartDivisor: 0xffff,
  uartFifo: 1,
  uartEmpty: 1,
  uartLine: 1,
  powerEnable: 0xffff,
} as const satisfies Partial<Record<keyof typeof Word, number>>;
export type RegisterName = keyof typeof registerBits;
export const registerNames = Object.keys(registerBits) as RegisterName[];

/** A PCI function. */
export interface FunctionState {
  readonly slot: number;
  /** Configuration space. */
  readonly config: Uint8Array;
  /** MSI-X table and pending bits; empty if it has none. */
  readonly table: Uint8Array;
  readonly pending: Uint8Array;
}

export interface BoardState {
  readonly registers: Readonly<Record<RegisterName, number>>;
  /** Bytes that wait in the serial port for the guest. */
  readonly input: Uint8Array;
  readonly keyboard: KeyboardState;
  /** Undefined if the computer has no firmware. */
  readonly fwCfg: FwCfgState | undefined;
  /** UEFI's variables. Undefined if the computer has none. */
  readonly flash: FlashState | undefined;
  readonly functions: readonly FunctionState[];
}
