/**
 * NbdTarget: one connection of an NBD server ([NBD]), from the greeting to the end.
 *
 * It uses streams and BlockDevices only. Not here: sockets, files, and other connections, except
 * those of its own session (block/sessions.ts).
 */
import type { ThrottledLogger } from '../../../base/log.js';
import { messageOf } from '../../../base/errors.js';
import { Steps } from '../../../base/steps.js';
import { LossWatch } from '../../../block/losses.js';
import type { ByteStream, Secure } from '../../../network/stream.js';
import type { ExportDirectory } from './export.js';
import { Handshake } from './handshake.js';
import { HandshakeClock } from './handshake-clock.js';
import { defaultLimits, type TargetLimits } from './limits.js';
import { Arena, type SlabPool } from './memory.js';
import { Outbox } from './outbox.js';
import { Securing } from './securing.js';
import type { SessionMember, SessionRegistry } from '../../../block/sessions.js';
import type { HandshakeHost, Stage, TlsMode } from './stage.js';
import { Transmission } from './transmission.js';

/** Shared by all connections of a server. */
export interface TargetContext {
  readonly exports: ExportDirectory;
  readonly pool: SlabPool;
  readonly log: ThrottledLogger;
  readonly limits?: Partial<TargetLimits>;
  /** How connections are encrypted, and whether they must be. Undefined: no TLS. */
  readonly tls?: TargetTls | undefined;
  /** Receives the trace steps of [SYS] fig. 9 and 10 for each request, by cookie. */
  readonly steps?: Steps | undefined;
  /** Called when the handshake has succeeded. */
  readonly entered?: () => void;
}

/** The encryption of a server's connections. */
export interface TargetTls {
  /** `require`: clients must use TLS; `on`: they may. */
  readonly mode: Exclude<TlsMode, 'off'>;
  /** Encrypts a connection. */
  readonly secure: Secure;
}

/**
 * Most bytes that a stream may still deliver after it was paused. If it delivers more, it ignores
 * the pause, and the connection ends.
 */
const maxHeld = 4 << 20;
const nothing = new Uint8Array(0);

export class NbdTarget implements SessionMember {
  /** Resolves when the connection is closed and none of its requests runs any more. */
  readonly finished: Promise<void>;
  readonly #context: TargetContext;
  readonly #log: ThrottledLogger;
  readonly #arena: Arena;
  readonly #outbox: Outbox;
  readonly #limits: TargetLimits;
  /** Limits the total time of the handshakes before TLS, of TLS, and after it. */
  readonly #clock: HandshakeClock;
  #stream: ByteStream;
  /** True if the stream is encrypted. */
  #secured = false;
  #stage: Stage;
  #state: 'open' | 'ended' | 'closed' = 'open';
  #draining = false;
  /**
   * Bytes that arrived while the phase takes none. Defined, though perhaps empty, as long as the
   * phase waits; undefined otherwise.
   */
  #held: Uint8Array | undefined;
  #feeding = false;
  #waking = false;
  #wakeAgain = false;
  #resolveFinished: () => void = () => undefined;
  /** The losses of the export that is in transmission. */
  #losses: LossWatch | undefined;
  #session: { readonly registry: SessionRegistry; readonly id: string } | undefined;

  /** Starts the protocol on `stream`, which must be new. */
  constructor(stream: ByteStream, context: TargetContext) {
    this.#stream = stream;
    this.#context = context;
    this.#log = context.log;
    this.finished = new Promise((resolve) => (this.#resolveFinished = resolve));
    this.#limits = { ...defaultLimits, ...context.limits };
    const { handshakeMs, handshakeWorkMs } = this.#limits;
    this.#clock = new HandshakeClock(handshakeMs, handshakeWorkMs, (reason) => this.#fail(reason));
    this.#arena = new Arena(context.pool);
    this.#outbox = new Outbox(
      stream,
      this.#arena,
      () => this.#stage.sent(),
      (reason) => this.#fail(reason),
    );
    const handshake = new Handshake(this.#host());
    this.#stage = handshake;
    this.#attach(stream);
    handshake.start();
  }

  /** The peer's name or address, for logs. */
  get peer(): string {
    return this.#stream.peer;
  }

  /**
   * The memory that the connection holds, in bytes, and the time for which the client has not taken
   * what was sent, in ms.
   */
  get holding(): { readonly bytes: number; readonly stalledFor: number } {
    return { bytes: this.#arena.held, stalledFor: this.#outbox.stalledFor };
  }

  /** Shuts down: answers the requests in flight, refuses new ones, then closes. */
  drain(): void {
    if (this.#state !== 'open' || this.#draining) return;
    this.#draining = true;
    this.#stage.drain();
  }

  /** Closes immediately. Requests at the device are aborted where possible. */
  destroy(): void {
    this.#stream.destroy();
    this.#close();
  }

  fence(): Promise<void> {
    this.destroy();
    return this.finished;
  }

  #attach(stream: ByteStream): void {
    stream.attach({
      data: (chunk, headroom) => this.#data(chunk, headroom),
      drain: () => this.#outbox.drained(),
      closed: (error) => this.#closed(error),
    });
  }

  #host(): HandshakeHost {
    const { exports, tls, steps } = this.#context;
    const host: HandshakeHost = {
      exports,
      secured: this.#secured,
      tls: tls?.mode ?? 'off',
      limits: this.#limits,
      clock: this.#clock,
      arena: this.#arena,
      outbox: this.#outbox,
      steps: steps ?? new Steps(),
      secure: (flags) => this.#beginTls(host, tls!.secure, flags),
      wake: () => this.#wake(),
      end: () => this.#end(),
      fail: (reason) => this.#fail(reason),
      join: (registry, id) => this.#join(registry, id),
      leave: () => this.#leave(),
      enter: (of, agreed, contexts) => {
        if (this.#state !== 'open') return;
        this.#clock.stop();
        this.#context.entered?.();
        of.entered?.(this, contexts.reader === undefined);
        this.#losses = new LossWatch(of.device.losses, this.#session?.registry.seenLosses(this.#session.id));
        this.#stage = new Transmission(host, of, agreed, contexts, this.#losses);
        if (this.#draining) this.#stage.drain();
      },
    };
    return host;
  }

  #beginTls(host: HandshakeHost, secure: Secure, flags: number): void {
    const stop = (): void => this.#stream.pause();
    const securing = new Securing(host, stop, (signal) => {
      secure(this.#stream, signal).then(
        ({ stream, names }) => {
          if (this.#state !== 'open') return stream.destroy();
          securing.end();
          this.#stream = stream;
          this.#outbox.moveTo(stream);
          this.#held = undefined;
          this.#secured = true;
          if (names[0] !== undefined) this.#context.exports.identify?.(names[0], names);
          const handshake = new Handshake(this.#host());
          this.#stage = handshake;
          handshake.resume(flags);
          if (this.#draining) handshake.drain();
          this.#attach(stream);
        },
        (error: unknown) => this.#fail(messageOf(error)),
      );
    });
    this.#stage = securing;
    if (this.#draining) securing.drain();
  }

  #data(chunk: Uint8Array, headroom = 0): void {
    if (this.#state !== 'open') return;
    if (this.#stage instanceof Securing) return void this.#stage.receive(chunk, 0);
    if (this.#held) {
      if (this.#held.length + chunk.length > maxHeld) return this.#fail('it does not stop sending');
      const joined = new Uint8Array(this.#held.length + chunk.length);
      joined.set(this.#held);
      joined.set(chunk, this.#held.length);
      this.#held = joined;
      return;
    }
    // Replies that are ready during this call go out in one write.
    this.#outbox.hold();
    const rest = this.#feed(chunk, headroom);
    if (rest) {
      this.#held = rest.slice();
      this.#stream.pause();
    }
    this.#outbox.letGo();
  }

  #wake(): void {
    // During #feed, the loop there continues by itself.
    if (!this.#held || this.#feeding || this.#state !== 'open') return;
    // Replies that are sent immediately make room for more requests, which wake again: loop instead
    // of recursing ever deeper.
    this.#wakeAgain = this.#waking;
    if (this.#waking) return;
    this.#waking = true;
    do {
      this.#wakeAgain = false;
      this.#outbox.hold();
      this.#held = this.#feed(this.#held, 0);
      if (!this.#held) this.#stream.resume();
      this.#outbox.letGo();
    } while (this.#wakeAgain && this.#held);
    this.#waking = false;
  }

  /**
   * Passes bytes to the current phase and its successors. Returns the bytes that were not taken,
   * perhaps none, if the phase waits; undefined if all were taken.
   */
  #feed(chunk: Uint8Array, headroom: number): Uint8Array | undefined {
    this.#feeding = true;
    let at = 0;
    try {
      for (;;) {
        const stage = this.#stage;
        const from = at;
        at = stage.receive(chunk, from, headroom);
        if (this.#state !== 'open') return undefined;
        if (stage !== this.#stage) continue;
        if (stage.waiting) return at < chunk.length ? chunk.subarray(at) : nothing;
        if (at >= chunk.length) return undefined;
        // The phase violated its contract (stage.ts). Without this check, the loop would block the
        // whole server forever.
        if (at <= from) return this.#stuck(chunk.length - at);
      }
    } finally {
      this.#feeding = false;
    }
  }

  /** Ends the connection because of a bug in this program, and logs it as one. */
  #stuck(bytes: number): undefined {
    this.#log.log(
      'error',
      'stuck',
      `${this.peer}: connection closed: this server does not take the ${bytes} bytes that came; please report this fault`,
    );
    this.destroy();
  }

  #end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#clock.stop();
    this.#held = undefined;
    this.#outbox.flush();
    this.#stream.end();
  }

  #fail(reason: string): void {
    if (this.#state === 'closed') return;
    this.#log.log('warn', 'peer', `${this.peer}: connection closed: ${reason}`);
    this.destroy();
  }

  async #join(registry: SessionRegistry, id: string): Promise<boolean> {
    if (this.#session && (this.#session.registry !== registry || this.#session.id !== id)) this.#leave();
    this.#session = { registry, id };
    const joined = await registry.join(id, this);
    return joined && this.#state === 'open';
  }

  #leave(): void {
    this.#session?.registry.leave(this.#session.id, this, this.#losses?.seen);
    this.#session = undefined;
  }

  #closed(error?: Error): void {
    if (error && this.#state === 'open') this.#log.log('debug', 'lost', `${this.peer}: lost: ${error.message}`);
    this.#close();
  }

  #close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#clock.stop();
    this.#held = undefined;
    const closing = this.#stage.close();
    this.#outbox.close();
    void closing.then(() => {
      this.#leave();
      this.#resolveFinished();
    });
  }
}
