/**
 * A server: listeners whose connections are NBD targets on one set of exports, and its orderly end.
 * Knows no sockets: streams are brought to it.
 */
import { sleep } from '../base/turn.js';
import { ThrottledLogger, type Logger } from '../base/log.js';
import type { ByteStream } from '../network/stream.js';
import type { TargetLimits } from '../protocol/nbd/target/limits.js';
import { SlabPool } from '../protocol/nbd/target/memory.js';
import { NbdTarget } from '../protocol/nbd/target/target.js';
import type { Exports } from './exports.js';

/** How long connections have to finish when the server drains, in ms. */
const defaultDrainMs = 10_000;
/** How long devices have to finish what connections have left behind, in ms. */
const settleMs = 5_000;

/** Something that brings streams and can be closed. */
interface Accepting {
  close(): Promise<void>;
}

export class Server {
  readonly exports: Exports;
  readonly #listeners: Accepting[] = [];
  readonly #targets = new Set<NbdTarget>();
  readonly #pool = new SlabPool();
  readonly #log: ThrottledLogger;
  readonly #limits: Partial<TargetLimits>;
  #stopping: Promise<void> | undefined;

  constructor(exports: Exports, log: Logger, limits: Partial<TargetLimits> = {}) {
    this.exports = exports;
    this.#log = new ThrottledLogger(log);
    this.#limits = limits;
  }

  /** Connections that are open, or closed with something still running. */
  get connections(): number {
    return this.#targets.size;
  }

  /** A listener to close with the server. */
  add(listener: Accepting): void {
    this.#listeners.push(listener);
  }

  /** Serves one new connection. */
  readonly accept = (stream: ByteStream): void => {
    if (this.#stopping) return stream.destroy();
    this.#log.log('debug', 'connected', `${stream.peer}: connected`);
    const target = new NbdTarget(stream, {
      exports: this.exports,
      pool: this.#pool,
      log: this.#log,
      limits: this.#limits,
    });
    this.#targets.add(target);
    void target.finished.then(() => this.#targets.delete(target));
  };

  /**
   * Stops accepting, answers what is under way, refuses what comes after, closes the connections and the devices.
   * Idempotent.
   */
  drain(drainMs = defaultDrainMs): Promise<void> {
    return (this.#stopping ??= this.#stop(drainMs));
  }

  async #stop(drainMs: number): Promise<void> {
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    for (const target of this.#targets) target.drain();
    await this.#finished(drainMs);
    for (const target of this.#targets) target.destroy();
    // A device closes when nothing of it is under way; one that hangs must not keep the program.
    const inTime = await within(settleMs, this.exports.close());
    if (!inTime) this.#log.log('warn', 'close', 'a device does not finish its requests: left as it is');
  }

  /** Waits until all connections have finished, for so long at most. */
  async #finished(ms: number): Promise<void> {
    await within(ms, Promise.all([...this.#targets].map((target) => target.finished)));
  }
}

/** Waits for `work`, for so long at most. Returns whether it was done in time; rejects as it does. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const enough = new AbortController();
  const late = sleep(ms, enough.signal).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    enough.abort();
  }
}
