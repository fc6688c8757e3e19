/** A computer of a site as the one who runs the site sees it, wherever it runs. */
import type { LogLevel } from '../base/log.js';
import type { Work } from '../base/work.js';
import type { Segment } from '../network/ethernet/segment.js';
import type { ComputerPlan } from './plan.js';

/**
 * `starting`: its hypervisor, devices and drives; `booting`: its operating system; `running`; `ended`: the operating
 * system halted or asked for a reset; `failed`: it could not start or go on; `crashed`: its process is gone; `stopped`.
 */
export type ComputerState = 'starting' | 'booting' | 'running' | 'ended' | 'failed' | 'crashed' | 'stopped';

/** Whether nothing more comes of it. */
export function isOver(state: ComputerState): boolean {
  return state === 'ended' || state === 'failed' || state === 'crashed' || state === 'stopped';
}

/** Who writes on a device that a server and its operating system both have. */
export interface LeaseState {
  /** "SERVER/DEVICE" */
  readonly device: string;
  readonly holder: string;
  readonly sides: readonly string[];
}

/** What a computer tells. None of these may throw. */
export interface ComputerEvents {
  state(state: ComputerState, detail: string): void;
  /** Bytes of its console. */
  output(bytes: Uint8Array): void;
  log(level: LogLevel, message: string): void;
  leases(leases: readonly LeaseState[]): void;
}

export interface RunningComputer {
  /** Bytes to its console. */
  input(bytes: Uint8Array): void;
  /** Rejects with a FarbusError where the lease stays where it is, as when the request is withdrawn. */
  moveLease(device: string, to: string, work: Work): Promise<void>;
  /** Ends it; idempotent. Its last event is a state that is over. */
  stop(): Promise<void>;
}

/** What of a site concerns each of its computers. */
export interface StartOptions {
  /** A folder for a file with the steps of every command; undefined: none. */
  readonly traceFolder: string | undefined;
  /** Replaces a snapshot of another system or of other drives instead of refusing it. Default: false. */
  readonly renewSnapshot?: boolean | undefined;
}

/** Starts a computer, whose adapter is on `segment`. What goes wrong is an event. */
export type StartComputer = (
  plan: ComputerPlan,
  segment: Segment | undefined,
  events: ComputerEvents,
  options: StartOptions,
) => RunningComputer;
