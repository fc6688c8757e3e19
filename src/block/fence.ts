/**
 * Fence: delays writes until no write of an earlier, killed process can overwrite them (life.ts).
 * Reads are not delayed. If a place cannot be fenced, it is tried again with a back-off. After the
 * reconnect time the waiting writes fail, and so do later ones until the fence is complete.
 *
 * Not here: how a protocol fences a place (the initiators).
 */
import { onAbort } from '../base/abort.js';
import { AwakeClock } from '../base/awake-clock.js';
import { BackOff } from '../base/back-off.js';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { abortedError, BlockError, closedError } from './errors.js';
import type { EndedLife, Fate, Life, FenceKey } from './life.js';

export interface FenceOptions {
  /** The source, for messages. */
  readonly address: string;
  /** Longest wait of a write, in seconds; at least 5 s are waited. */
  readonly seconds: number;
  readonly log: Logger;
  /**
   * Makes sure that no write from that place can take effect any more. Rejects if it must be tried
   * again.
   */
  readonly fence: (key: FenceKey, signal: AbortSignal) => Promise<Fate>;
  /**
   * Waits until no write of any earlier life can be in flight, for protocols in which a time
   * guarantees that. It is used if keys are lost. Undefined if the protocol has no such time.
   */
  readonly settle?: (signal: AbortSignal) => Promise<void>;
}

/**
 * Shortest time limit of writes, in seconds: fencing takes time even if the user allows none for
 * reconnection.
 */
const minSeconds = 5;
/** Longest further wait of writes when the device is about to close, in ms. */
const closeMs = 4000;

export class Fence {
  readonly #options: FenceOptions;
  readonly #life: Life;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  readonly #waiting = new Set<(error?: BlockError) => void>();
  #open = false;
  #failure: BlockError | undefined;
  #closing: ReturnType<typeof setTimeout> | undefined;
  #reason = 'the server does not confirm that they have ended';

  private constructor(life: Life, options: FenceOptions) {
    this.#life = life;
    this.#options = options;
    // A timer can run for at most 2^31 ms.
    const seconds = Math.min(Math.max(options.seconds, minSeconds), 2_000_000);
    const clock = new AwakeClock();
    const cancel = clock.after(seconds * 1000, () => this.#late(seconds));
    this.#done = this.#run().finally(() => {
      cancel();
      clock.stop();
    });
  }

  /** A fence against the writes of earlier lives; undefined if there are none to fence. */
  static of(life: Life | undefined, options: FenceOptions): Fence | undefined {
    if (!life || (life.ended.length === 0 && (life.kept || !options.settle))) return undefined;
    return new Fence(life, options);
  }

  /**
   * A promise that a write must await, or undefined if it may go now.
   * Rejects with a BlockError: `unreachable` after the time limit, `aborted`, `closed`.
   */
  wait(signal?: AbortSignal): Promise<void> | undefined {
    if (this.#open) return undefined;
    const error = this.#failure ?? (signal?.aborted ? abortedError() : undefined);
    if (error) return Promise.reject(error);
    return new Promise((resolve, reject) => {
      const settle = (error?: BlockError): void => {
        unwatch();
        this.#waiting.delete(settle);
        if (error) reject(error);
        else resolve();
      };
      this.#waiting.add(settle);
      const unwatch = onAbort(signal, () => settle(abortedError()));
    });
  }

  /** Call when the device is about to close: waiting writes then fail soon. */
  hurry(): void {
    this.#closing ??= setTimeout(() => this.#fail(closedError()), closeMs);
  }

  /** Stops fencing, fails the waiting writes, and resolves when no fencing is in progress. */
  async close(): Promise<void> {
    clearTimeout(this.#closing);
    this.#stop.abort(closedError());
    this.#fail(closedError());
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { settle } = this.#options;
    try {
      let lost = !this.#life.kept;
      const all = [...this.#life.ended];
      for (const ended of all) {
        lost ||= ended.keys === undefined;
        await this.#fence(ended, settle !== undefined);
        if (ended.keys) await this.#life.fenced(ended);
      }
      if (lost) await settle?.(signal);
      for (const ended of all) if (!ended.keys) await this.#life.fenced(ended);
    } catch {
      // Closed before the fence was complete: the next life must fence these places.
      return;
    }
    this.#open = true;
    for (const settled of [...this.#waiting]) settled();
  }

  async #fence({ pid, keys }: EndedLife, settles: boolean): Promise<void> {
    const who = pid > 0 ? `the ended process ${pid}` : 'an ended process';
    if (!keys) {
      if (!settles) this.#warn(`the record of ${who} cannot be read: one of its writes may still land`);
      return;
    }
    let unknown = false;
    for (const key of keys) unknown = (await this.#place(key)) === 'unknown' || unknown;
    if (unknown) this.#warn(`the server cannot tell whether a write of ${who} may still land`);
  }

  async #place(key: FenceKey): Promise<Fate> {
    const { signal } = this.#stop;
    for (const backOff = new BackOff(); ; await backOff.wait(signal)) {
      signal.throwIfAborted();
      try {
        return await this.#options.fence(key, signal);
      } catch (error) {
        this.#reason = messageOf(error);
      }
    }
  }

  #late(seconds: number): void {
    const { address, log } = this.#options;
    const why = `the writes of an earlier process have not ended for ${seconds} seconds: ${this.#reason}`;
    const error = new BlockError('unreachable', `${address}: ${why}`);
    log.log('error', error.message);
    this.#fail(error);
  }

  #fail(error: BlockError): void {
    this.#failure = error;
    for (const settled of [...this.#waiting]) settled(error);
  }

  #warn(what: string): void {
    const { address, log } = this.#options;
    log.log('warn', `${address}: ${what}`);
  }
}
