/** The interfaces between a connection and its phases (handshake, TLS start, transmission). */
import type { Steps } from '../../../base/steps.js';
import type { Agreement } from './check.js';
import type { ChosenContexts } from './contexts.js';
import type { ExportDirectory, TargetExport } from './export.js';
import type { HandshakeClock } from './handshake-clock.js';
import type { TargetLimits } from './limits.js';
import type { Arena } from './memory.js';
import type { Outbox } from './outbox.js';
import type { SessionRegistry } from '../../../block/sessions.js';

/**
 * A phase of a connection: takes bytes and sends messages. When {@link Stage.receive} returns, one
 * of these must hold:
 *
 * - the phase has taken all bytes;
 * - the phase waits: `waiting` is true;
 * - the phase is over: another phase has replaced it, or the connection has ended.
 *
 * A phase that is over but not yet replaced waits. If none of the three holds, the connection would
 * call the phase forever with the same bytes, so it closes instead.
 */
export interface Stage {
  /**
   * True if the phase takes no bytes now. It calls {@link StageHost.wake} when it takes bytes
   * again, unless it is over.
   */
  readonly waiting: boolean;
  /**
   * Takes bytes of `chunk` from index `at` on, as many as it wants.
   * @param headroom see StreamEvents.data
   * @returns the index of the first byte that was not taken
   */
  receive(chunk: Uint8Array, at: number, headroom?: number): number;
  /** Called when {@link Outbox.unsent} has become lower: messages were sent or dropped. */
  sent(): void;
  /** Shuts down: the phase finishes its requests and calls {@link StageHost.end}. */
  drain(): void;
  /** The connection is closed. Resolves when no request of the phase runs any more. */
  close(): Promise<void>;
}

/** The connection, as its phases see it. */
export interface StageHost {
  readonly limits: TargetLimits;
  readonly arena: Arena;
  readonly outbox: Outbox;
  /** Receives the trace steps of [SYS] fig. 9 and 10 for each request, by cookie. */
  readonly steps: Steps;
  /** The phase takes bytes again. */
  wake(): void;
  /** The phase has nothing more to send: sends the waiting messages, then closes. */
  end(): void;
  /**
   * The peer violated the protocol: closes immediately. `reason` is a clause about the peer: "it
   * sent …".
   */
  fail(reason: string): void;
}

/** The connection, as the handshake sees it. */
export interface HandshakeHost extends StageHost {
  readonly exports: ExportDirectory;
  /** True if the connection is encrypted. */
  readonly secured: boolean;
  readonly tls: TlsMode;
  /** Measures the time that the handshake takes. */
  readonly clock: HandshakeClock;
  /**
   * The client was told that it may start TLS.
   * @param flags the client's flags, for the next handshake
   */
  secure(flags: number): void;
  /** Makes this connection the session's current one; see {@link SessionRegistry.join}. */
  join(registry: SessionRegistry, id: string): Promise<boolean>;
  /** Ends the connection's membership in its session, if it has one. */
  leave(): void;
  /** The handshake has succeeded: starts transmission. */
  enter(of: TargetExport, agreed: Agreement, contexts: ChosenContexts): void;
}

/**
 * The use of TLS ([NBD] "Server-side requirements"): 'off' is NOTLS. 'on' is SELECTIVETLS: the
 * client chooses, except for exports that are TLS-only. 'require' is FORCEDTLS.
 */
export type TlsMode = 'off' | 'on' | 'require';
