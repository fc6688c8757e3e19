/**
 * Serves exports by NBD: accepts connections and runs a target for each.
 *
 * Not here: sockets. Listeners pass byte streams to {@link Server.accept}.
 */
import { ThrottledLogger, type Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { ByteStream } from '../../network/stream.js';
import type { TargetLimits } from '../../protocol/nbd/target/limits.js';
import { SlabPool } from '../../protocol/nbd/target/memory.js';
import { NbdTarget, type TargetTls } from '../../protocol/nbd/target/target.js';
import { Admission, type Admitted, type ConnectionLimits } from '../admission.js';
import { drain, type Adapter } from '../drain.js';
import type { Exports } from '../exports.js';
import { ConnectionView, type Entry } from '../view.js';

/**
 * While other connections wait for memory, a client that takes none of its replies for this time is
 * disconnected, in ms.
 */
const stallMs = 30_000;
/** Number of checks in that time. */
const looks = 6;
/** Shortest interval between two log messages about refused connections, in ms. */
const refusalMs = 60_000;

/** A listener that can be closed. */
interface Accepting {
  close(): Promise<void>;
}

/** Limits of a server's memory and of each connection. */
export interface ServerLimits extends Partial<TargetLimits> {
  /**
   * Memory for requests in flight of all connections together, in bytes. Beyond it each connection
   * gets 1 MiB and waits for more. Default 512 MiB.
   */
  readonly maxMemory?: number;
  /**
   * While others wait for memory, a client that takes none of its replies for this time is
   * disconnected, in ms. Default 30000.
   */
  readonly stallMs?: number;
}

/** An NBD server without its sockets: serves the exports on each stream that it is given. */
export class Server implements Adapter {
  /** The disks that are served. More can be added at any time. */
  readonly exports: Exports;
  readonly #listeners = new Set<Accepting>();
  readonly #targets = new Map<NbdTarget, ConnectionView>();
  readonly #pool: SlabPool;
  readonly #logger: Logger;
  readonly #log: ThrottledLogger;
  readonly #limits: Partial<TargetLimits>;
  /** Encryption of new connections; undefined: none. */
  tls: TargetTls | undefined;
  /**
   * Receives the steps of [SYS] fig. 9 and 10 of each request; undefined: steps are not reported.
   */
  steps: Steps | undefined;
  #closed = false;
  #drained: Promise<void> | undefined;
  #accepted = 0;
  #refused = 0;
  readonly #admission = new Admission();
  readonly #refusals: ThrottledLogger;

  readonly #stallMs: number;
  /** Set while a connection waits for memory. */
  #relief: ReturnType<typeof setTimeout> | undefined;

  constructor(exports: Exports, log: Logger, limits: ServerLimits = {}) {
    this.exports = exports;
    this.#logger = log;
    this.#log = new ThrottledLogger(log);
    this.#refusals = new ThrottledLogger(log, refusalMs);
    this.#limits = limits;
    this.#pool = new SlabPool(undefined, limits.maxMemory);
    this.#stallMs = limits.stallMs ?? stallMs;
    this.#pool.onShort = () => (this.#relief ??= setTimeout(() => this.#relieve(), this.#stallMs / looks));
  }

  /** Number of connections that are open, or closed with requests still in flight. */
  get connections(): number {
    return this.#targets.size;
  }

  /**
   * Limits of connections. A connection beyond them is closed when it is accepted. May be changed
   * at any time.
   */
  set connectionLimits(limits: ConnectionLimits) {
    this.#admission.limits = limits;
  }

  /** Number of connections since the start, and how many of them exceeded a limit. */
  get counts(): { readonly accepted: number; readonly refused: number } {
    return { accepted: this.#accepted, refused: this.#refused };
  }

  /** The present connections. */
  get clients(): Iterable<ConnectionView> {
    return this.#targets.values();
  }

  /** Adds a listener, which the server closes when it stops. */
  add(listener: Accepting): void {
    this.#listeners.add(listener);
  }

  /** Closes a listener before the server's end. Connections that it has accepted continue. */
  async remove(listener: Accepting): Promise<void> {
    this.#listeners.delete(listener);
    await listener.close();
  }

  /** Serves one new connection. */
  readonly accept = (stream: ByteStream): void => this.enter(stream);

  /**
   * Serves one new connection that was authenticated for one export. It gets no TLS from NBD.
   * @internal
   * @param entry undefined: NBD itself finds out who the client is
   */
  enter(stream: ByteStream, entry?: Entry): void {
    if (this.#closed) return stream.destroy();
    this.#accepted++;
    const refusal = this.#admission.refusal(stream.peer);
    if (refusal !== undefined) {
      this.#refused++;
      const count = this.#refused === 1 ? '' : `; ${this.#refused} refused since the start`;
      this.#refusals.log('warn', 'limit', `${stream.peer}: refused: ${refusal}${count}`);
      return stream.destroy();
    }
    this.#log.log('debug', 'connected', `${stream.peer}: connected`);
    const view = new ConnectionView(this.exports, String(this.#accepted), stream.peer, this.#log, entry);
    const target = new NbdTarget(stream, {
      exports: view,
      pool: this.#pool,
      log: this.#log,
      limits: this.#limits,
      tls: entry ? undefined : this.tls,
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
  }

  /**
   * Ends a server that serves its exports by NBD only: closes the connections ({@link close}) and
   * then the devices. Idempotent.
   * @param drainMs time limit for the connections, in ms; default 10000
   */
  drain(drainMs?: number): Promise<void> {
    return (this.#drained ??= drain(this.exports, [this], this.#logger, drainMs));
  }

  /**
   * Stops accepting, answers requests in flight, refuses new ones, and resolves when all
   * connections have finished.
   */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#relief);
    const closed = [...this.#listeners].map((listener) => listener.close());
    for (const target of this.#targets.keys()) target.drain();
    await Promise.all([...closed, ...[...this.#targets.keys()].map((target) => target.finished)]);
  }

  /** Closes the connections at once. */
  destroy(): void {
    for (const target of this.#targets.keys()) target.destroy();
  }

  /**
   * Closes connections that hold memory while others wait for it, and whose clients do not read
   * their replies.
   */
  #relieve(): void {
    this.#relief = undefined;
    if (!this.#pool.short || this.#closed) return;
    for (const target of this.#targets.keys()) {
      const { bytes, stalledFor } = target.holding;
      if (bytes === 0 || stalledFor < this.#stallMs) continue;
      this.#log.log('warn', 'stalled', `${target.peer}: closed: it does not read its replies, and memory is short`);
      target.destroy();
    }
    this.#pool.onShort();
  }
}
