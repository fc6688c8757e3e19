/** The interface to a running computer of a site, independent of the process that it runs in. */
import type { LogLevel } from '../base/log.js';
import type { Work } from '../base/work.js';
import type { Segment } from '../network/ethernet/segment.js';
import type { ComputerPlan } from './plan.js';

/**
 * State of a computer. `starting`: its hypervisor, devices and drives start; `booting`: its
 * operating system boots; `paused`: a person has stopped it for a while; `ended`: the operating
 * system halted or requested a reset; `failed`: an error stopped it or its start; `crashed`: its
 * process died; `stopped`: the site stopped it.
 */
export type ComputerState = 'starting' | 'booting' | 'running' | 'paused' | 'ended' | 'failed' | 'crashed' | 'stopped';

/** True if the state is final. */
export function isOver(state: string): boolean {
  return state === 'ended' || state === 'failed' || state === 'crashed' || state === 'stopped';
}

/** True if its system has booted. A paused one has: a person may pause it while others boot. */
export function isUp(state: string): boolean {
  return state === 'running' || state === 'paused';
}

/**
 * The lease of a device that a server's network clients and its own operating system share: the
 * holder may write.
 */
export interface LeaseState {
  /** "SERVER/DEVICE" */
  readonly device: string;
  /** The side that may write. */
  readonly holder: string;
  /** All sides. */
  readonly sides: readonly string[];
}

/** Events of a computer. The handlers must not throw. */
export interface ComputerEvents {
  state(state: ComputerState, detail: string): void;
  /** Console output. */
  output(bytes: Uint8Array): void;
  log(level: LogLevel, message: string): void;
  leases(leases: readonly LeaseState[]): void;
}

/** A request to a computer: a command with its fields, which JSON can carry. */
export type ComputerRequest = { readonly command: string } & Readonly<Record<string, unknown>>;

export interface RunningComputer {
  /** Console input. */
  input(bytes: Uint8Array): void;
  /**
   * Moves a lease. Rejects with a FarbusError if the lease stays where it is, for example because
   * the request was withdrawn.
   */
  moveLease(device: string, to: string, work: Work): Promise<void>;
  /**
   * Answers a request to the computer (app/computer/control). The answer can be sent to another
   * process. Rejects with a FarbusError, also if the computer cannot answer now.
   */
  control(request: ComputerRequest, work: Work): Promise<unknown>;
  /** Stops the computer. Idempotent. Its last event is a final state. */
  stop(): Promise<void>;
}

/** Options of a site that apply to each computer. */
export interface StartOptions {
  /** Folder for trace files with the steps of every command; undefined for no trace. */
  readonly traceFolder: string | undefined;
  /** Folder for snapshots of running computers. Default: none can be saved. */
  readonly snapshotFolder?: string | undefined;
  /**
   * Replace a snapshot of another system or of other drives instead of refusing it. Default false.
   */
  readonly renewSnapshot?: boolean | undefined;
}

/** Starts a computer with its network adapter on `segment`. Errors are reported as events. */
export type StartComputer = (
  plan: ComputerPlan,
  segment: Segment | undefined,
  events: ComputerEvents,
  options: StartOptions,
) => RunningComputer;
