/**
 * How the drivers of tests reach a controller's registers. By default they call the controller. A
 * test file can put the controllers on an engine's board instead (kvm-board.ts, v86-board.ts).
 */
import type { MessageInterrupts, MsixPlace } from '../../src/machine/engine.js';
import type { GuardedDevice } from '../../src/machine/trap.js';

export interface DriverRegisters {
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
  /**
   * Switches on the board's interrupts by message. Each message is told with its vector. Undefined
   * if the board has none of its own.
   */
  messages?(told: (vector: number) => void): MessageInterrupts;
}

/** Kind of interrupts by message of a controller. */
export interface DriverFunction {
  readonly barIndex: number;
  readonly msix?: MsixPlace;
  readonly msi?: boolean;
}

type Board = (device: GuardedDevice, kind: DriverFunction) => DriverRegisters;

const direct: Board = (device) => ({
  read: (offset, size) => device.read(offset, size),
  write: (offset, size, value) =>
    device.write(offset, size, value, { address: device.base + offset, value, time: performance.now() }),
});

let put: Board = direct;

/** Puts a controller on the board of this test file. */
export function putOnBoard(device: GuardedDevice, kind: DriverFunction): DriverRegisters {
  return put(device, kind);
}

/** From now on, the controllers of this test file are on another board. */
export function useBoard(other: Board): void {
  put = other;
}
