/**
 * Signal handling: SIGINT, SIGTERM and SIGHUP end a command in order; a second signal ends it at
 * once. If a peer or device keeps a command from ending, a time limit ends it.
 */

import { onAbort } from '../../base/abort.js';
import { Deadline } from '../../base/deadline.js';
import { endProcess } from '../../linux/end-process.node.js';
import { exitStatus } from '../exit-status.js';

const { hungUp, interrupted, terminated } = exitStatus;
/** Default time for a command to end in order after the first signal, in ms. */
const defaultEndMs = 20_000;

/** Time for aborted work to clean up, in ms. */
const settleMs = 500;

/** Number of commands, or parts of them, that handle signals themselves. */
let takers = 0;

/**
 * Installs handlers that end the process at a signal that no command handles, with the exit status
 * that a shell would report. Exit hooks then run, which end child processes.
 */
export function endOnSignals(): void {
  for (const [name, status] of [
    ['SIGINT', interrupted],
    ['SIGTERM', terminated],
    ['SIGHUP', hungUp],
  ] as const) {
    process.on(name, () => {
      if (takers === 0) endProcess(status);
    });
  }
}

/** Leaves signals to the caller's own handlers from now on. Returns a function that ends this. */
export function takeSignals(): () => void {
  takers++;
  let taking = true;
  return () => {
    if (taking) takers--;
    taking = false;
  };
}

/** Functions that begin the end in order of the commands that use {@link onSignals}. */
const endings = new Set<() => void>();

/**
 * Ends this process in order, as SIGTERM does. A later call, or a call after a signal, has no
 * further effect: a second SIGTERM would end the process at once.
 */
export function endInOrder(): void {
  // Without a handler here, the process passes SIGTERM on to the command that it runs.
  if (endings.size === 0) process.kill(process.pid, 'SIGTERM');
  for (const end of endings) end();
}

/** Error: a signal ended a command before it had a result. */
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
   * Resolves with the exit status: 0 for SIGTERM (a requested end), 130 for SIGINT, 129 for
   * SIGHUP, which a closed terminal sends.
   */
  readonly received: Promise<number>;
  /**
   * Aborts at the first signal with an {@link Interrupted}; for work that a signal should abort.
   */
  readonly signal: AbortSignal;
  /**
   * Waits for work that may be abandoned, such as opening a source. At the first signal it rejects
   * with {@link Interrupted}, once the work has ended or after a short time.
   * @param discard Called with the result of work that ends later.
   */
  during<T>(work: Promise<T>, discard?: (late: T) => unknown): Promise<T>;
  /** Stops handling signals: a signal then ends the process. Call it last. */
  stop(): void;
}

/**
 * Starts handling signals.
 * @param options.hangUp False if the command handles SIGHUP itself.
 * @param options.endMs Time for the command to end after the first signal, in ms. Then the process
 * is ended.
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
  const onInt = handle(interrupted);
  const onHangUp = handle(hungUp);
  if (hangUp) process.on('SIGHUP', onHangUp);
  process.on('SIGTERM', onTerm);
  process.on('SIGINT', onInt);
  const end = (): void => {
    if (count === 0) onTerm();
  };
  endings.add(end);
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
      endings.delete(end);
      give();
      process.off('SIGHUP', onHangUp);
      process.off('SIGTERM', onTerm);
      process.off('SIGINT', onInt);
    },
  };
}
