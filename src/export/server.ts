/**
 * A server: listeners whose connections are NBD targets on one set of exports, and its orderly end.
 * Knows no sockets: streams are brought to it.
 */
import { sleep } from '../base/turn.js';
import { ThrottledLogger, type Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { ByteStream } from '../network/stream.js';
import type { TargetLimits } from '../protocol/nbd/target/limits.js';
import { SlabPool } from '../protocol/nbd/target/memory.js';
import { NbdTarget, type TargetTls } from '../protocol/nbd/target/target.js';
import { Admission, type Admitted, type ConnectionLimits } from './admission.js';
import type { Exports } from './exports.js';
import { ConnectionView } from './view.js';

/** How long connections have to finish when the server drains, in ms. */
const defaultDrainMs = 10_000;
/** How long a client may take nothing of what it was sent while others wait for the memory, in ms; and how often that is looked at. */
const stallMs = 30_000;
const looks = 6;
/** How often it is told that connections are refused, in ms: they may be many. */
const refusalMs = 60_000;
/** How long devices have to finish what connections have left behind, in ms. */
const settleMs = 3_000;

/** Something that brings streams and can be closed. */
interface Accepting {
  close(): Promise<void>;
}

export interface ServerLimits extends Partial<TargetLimits> {
  /** Bytes under way on all connections together; beyond, each may have 1 MiB and has to wait for more. Default 512 MiB. */
  readonly maxMemory?: number;
  /** While others wait for memory: how long a client may take nothing of what it was sent, in ms. Default 30000. */
  readonly stallMs?: number;
}

export class Server {
  readonly exports: Exports;
  readonly #listeners = new Set<Accepting>();
  readonly #targets = new Map<NbdTarget, ConnectionView>();
  readonly #pool: SlabPool;
  readonly #log: ThrottledLogger;
  readonly #limits: Partial<TargetLimits>;
  /** How connections are encrypted; undefined: they are not. New connections have what is set when they come. */
  tls: TargetTls | undefined;
  /** Is told the steps of [SYS] fig. 9 and 10 of each request; undefined: nobody is. */
  steps: Steps | undefined;
  #stopping: Promise<void> | undefined;
  #accepted = 0;
  #refused = 0;
  readonly #admission = new Admission();
  readonly #refusals: ThrottledLogger;

  readonly #stallMs: number;
  /** Set while somebody waits for memory. */
  #relief: ReturnType<typeof setTimeout> | undefined;

  constructor(exports: Exports, log: Logger, limits: ServerLimits = {}) {
    this.exports = exports;
    this.#log = new ThrottledLogger(log);
    this.#refusals = new ThrottledLogger(log, refusalMs);
    this.#limits = limits;
    this.#pool = new SlabPool(undefined, limits.maxMemory);
    this.#stallMs = limits.stallMs ?? stallMs;
    this.#pool.onShort = () => (this.#relief ??= setTimeout(() => this.#relieve(), this.#stallMs / looks));
  }

  /** Connections that are open, or closed with something still running. */
  get connections(): number {
    return this.#targets.size;
  }

  /** How many connections are taken; more are closed as soon as they are accepted. May be changed. */
  set connectionLimits(limits: ConnectionLimits) {
    this.#admission.limits = limits;
  }

  /** Connections that have come since the start, and how many of them were over a limit. */
  get counts(): { readonly accepted: number; readonly refused: number } {
    return { accepted: this.#accepted, refused: this.#refused };
  }

  /** Those who are connected. */
  get clients(): Iterable<ConnectionView> {
    return this.#targets.values();
  }

  /** A listener to close with the server. */
  add(listener: Accepting): void {
    this.#listeners.add(listener);
  }

  /** Closes a listener before the server's end; connections that came by it go on. */
  async remove(listener: Accepting): Promise<void> {
    this.#listeners.delete(listener);
    await listener.close();
  }

  /** Serves one new connection. */
  readonly accept = (stream: ByteStream): void => {
    if (this.#stopping) return stream.destroy();
    this.#accepted++;
    const refusal = this.#admission.refusal(stream.peer);
    if (refusal !== undefined) {
      this.#refused++;
      const count = this.#refused === 1 ? '' : `; ${this.#refused} refused since the start`;
      this.#refusals.log('warn', 'limit', `${stream.peer}: refused: ${refusal}${count}`);
      return stream.destroy();
    }
    this.#log.log('debug', 'connected', `${stream.peer}: connected`);
    const view = new ConnectionView(this.exports, String(this.#accepted), stream.peer, this.#log);
    const target = new NbdTarget(stream, {
      exports: view,
      pool: this.#pool,
      log: this.#log,
      limits: this.#limits,
      tls: this.tls,
      steps: this.steps,
      entered: () => this.#admission.entered(admitted),
    });
    const admitted: Admitted = {
      peer: stream.peer,
      giveWay: (reason) => {
        this.#refusals.log('warn', 'gave way', `${stream.peer}: closed: ${reason}`);
        target.destroy();
      },
    };
    this.#admission.add(admitted);
    this.#targets.set(target, view);
    void target.finished.then(() => {
      this.#targets.delete(target);
      this.#admission.remove(admitted);
      view.close();
    });
  };

  /**
   * Stops accepting, answers what is under way, refuses what comes after, closes the connections and the devices.
   * Idempotent.
   */
  drain(drainMs = defaultDrainMs): Promise<void> {
    return (this.#stopping ??= this.#stop(drainMs));
  }

  /** Closes connections that hold memory which others wait for, and whose clients take nothing of it. */
  #relieve(): void {
    this.#relief = undefined;
    if (!this.#pool.short || this.#stopping) return;
    for (const target of this.#targets.keys()) {
      const { bytes, stalledFor } = target.holding;
      if (bytes === 0 || stalledFor < this.#stallMs) continue;
      this.#log.log('warn', 'stalled', `${target.peer}: closed: it does not read its replies, and memory is short`);
      target.destroy();
    }
    this.#pool.onShort();
  }

  async #stop(drainMs: number): Promise<void> {
    clearTimeout(this.#relief);
    // One limit for all of it: a listener on a segment waits for requests, too.
    await within(drainMs, this.#finish());
    for (const target of this.#targets.keys()) target.destroy();
    // A device closes when nothing of it is under way; one that hangs must not keep the program.
    const inTime = await within(settleMs, this.exports.close());
    if (!inTime) this.#log.log('warn', 'close', 'a device does not finish its requests: left as it is');
  }

  /** Closes the listeners, and waits until all connections have finished. */
  async #finish(): Promise<void> {
    const closed = [...this.#listeners].map((listener) => listener.close());
    for (const target of this.#targets.keys()) target.drain();
    await Promise.all([...closed, ...[...this.#targets.keys()].map((target) => target.finished)]);
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
