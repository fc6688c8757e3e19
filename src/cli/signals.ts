/**
 * SIGINT, SIGTERM and SIGHUP end a command in good order; a second one ends it at once. A command that does not come to its end
 * by itself, because a peer or a device keeps it waiting, is ended after a bound.
 */

import { onAbort } from '../base/abort.js';
import { Deadline } from '../base/deadline.js';
import { endProcess } from '../base/end-process.node.js';

/** Exit status of a command that SIGTERM ended before it was done: 128 and the signal's number, as shells have it. */
const terminated = 143;
/** Default of the time that a command has to end in good order after the first signal, in ms. */
const defaultEndMs = 20_000;

/** How long work that is given up may take to clean up, in ms. */
const settleMs = 500;

/** Commands, and parts of them, that take signals themselves. */
let takers = 0;

/**
 * Ends the process at a signal that no command takes itself, with the status that a shell tells: hooks for the end of the
 * process then run, which end children.
 */
export function endOnSignals(): void {
  for (const [name, status] of [
    ['SIGINT', 130],
    ['SIGTERM', terminated],
    ['SIGHUP', 129],
  ] as const) {
    process.on(name, () => {
      if (takers === 0) endProcess(status);
    });
  }
}

/** From now on a signal does what the caller does at it, and nothing else. Returns what ends that. */
export function takeSignals(): () => void {
  takers++;
  let taking = true;
  return () => {
    if (taking) takers--;
    taking = false;
  };
}

/** A signal ended a command before it had a result. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  /** Exit status of the command. */
  readonly status: number;

  constructor(status: number) {
    super('ended by a signal');
    this.status = status;
  }
}

export interface Signals {
  /**
   * Resolves with exit status 0 for SIGTERM (asked to end, and ended), 130 for SIGINT, and 129 for SIGHUP, which a terminal
   * that is closed sends.
   */
  readonly received: Promise<number>;
  /** Aborts at the first signal, with an {@link Interrupted}: for work that is given up by it. */
  readonly signal: AbortSignal;
  /**
   * Waits for work that may be left as it is, such as opening a source. Rejects with {@link Interrupted} at the first
   * signal: as soon as the work has ended, as it does where {@link signal} gives it up, or a moment later.
   * @param discard Is given the result of work that ends after that.
   */
  during<T>(work: Promise<T>, discard?: (late: T) => unknown): Promise<T>;
  /** Stops to listen: a signal then ends the process. Called last. */
  stop(): void;
}

/**
 * Listens from now on.
 * @param options.hangUp False for a command that takes SIGHUP itself.
 * @param options.endMs How long the command has to end after the first signal, in ms; the process is ended then.
 */
export function onSignals({ hangUp = true, endMs = defaultEndMs } = {}): Signals {
  let first: (status: number) => void = () => undefined;
  let count = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const received = new Promise<number>((resolve) => (first = resolve));
  const abort = new AbortController();
  const give = takeSignals();
  const handle = (status: number) => () => {
    if (++count > 1) endProcess(status || terminated);
    timer = setTimeout(() => endProcess(status || terminated), endMs).unref();
    abort.abort(new Interrupted(status || terminated));
    first(status);
  };
  const onTerm = handle(0);
  const onInt = handle(130);
  const onHangUp = handle(129);
  if (hangUp) process.on('SIGHUP', onHangUp);
  process.on('SIGTERM', onTerm);
  process.on('SIGINT', onInt);
  return {
    received,
    signal: abort.signal,
    during: async (work, discard) => {
      const ended = work.then(
        () => undefined,
        () => undefined,
      );
      await Promise.race([ended, received]);
      if (!abort.signal.aborted) return work;
      if (discard) void work.then(discard).catch(() => undefined);
      const settle = new Deadline(settleMs);
      await Promise.race([ended, new Promise((resolve) => onAbort(settle.signal, () => resolve(undefined)))]);
      settle.end();
      throw abort.signal.reason as Interrupted;
    },
    stop: () => {
      clearTimeout(timer);
      give();
      process.off('SIGHUP', onHangUp);
      process.off('SIGTERM', onTerm);
      process.off('SIGINT', onInt);
    },
  };
}
