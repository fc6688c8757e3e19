/** What a connection's phases (handshake, transmission) are to the connection, and it to them. */
import type { Steps } from '../../../base/steps.js';
import type { TargetLimits } from './limits.js';
import type { Arena } from './memory.js';
import type { Outbox } from './outbox.js';

/** A phase: takes bytes, sends messages. */
export interface Stage {
  /** It takes no more bytes until it calls {@link StageHost.wake}. */
  readonly waiting: boolean;
  /**
   * Takes bytes of `chunk` from `at` on, as many as it wants. Returns the place up to which it took them.
   * @param headroom As StreamEvents.data has it.
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
