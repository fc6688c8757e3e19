/** What a connection's phases (handshake, transmission) are to the connection, and it to them. */
import type { Steps } from '../../../base/steps.js';
import type { TargetLimits } from './limits.js';
import type { Arena } from './memory.js';
import type { Outbox } from './outbox.js';

/**
 * A phase: takes bytes, sends messages. When {@link Stage.receive} returns, one of these holds:
 *
 * - the phase has taken all bytes;
 * - it waits: `waiting` is true;
 * - it is over: another phase has taken its place, or the connection has ended.
 *
 * A phase that is over but still in place (the next one is being made) waits. A phase that does none of the three would
 * be called for ever with the same bytes: the connection ends it instead.
 */
export interface Stage {
  /** The phase takes no bytes now. It calls {@link StageHost.wake} when it does again; a phase that is over does not. */
  readonly waiting: boolean;
  /**
   * Takes bytes of `chunk` from `at` on, as many as it wants.
   * @param headroom As StreamEvents.data has it.
   * @returns the place up to which the phase took the bytes.
   */
  receive(chunk: Uint8Array, at: number, headroom?: number): number;
  /** Messages have left, or never will: {@link Outbox.unsent} is lower. */
  sent(): void;
  /** The server shuts down: the phase finishes what it has and calls {@link StageHost.end}. */
  drain(): void;
  /** The connection is closed. Resolves when nothing of the phase is running any more. */
  close(): Promise<void>;
}

/** The connection, as its phases see it. */
export interface StageHost {
  readonly limits: TargetLimits;
  readonly arena: Arena;
  readonly outbox: Outbox;
  /** Is told the steps of [SYS] fig. 9 and 10 of each request, under its cookie. */
  readonly steps: Steps;
  /** The phase can take bytes again. */
  wake(): void;
  /** Nothing more is to be said: sends what is waiting and closes. */
  end(): void;
  /** The peer broke the protocol: closes at once. `reason` says of the peer what it did: "it sent …". */
  fail(reason: string): void;
}
