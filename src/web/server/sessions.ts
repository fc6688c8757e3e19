/**
 * The open connections of the web server that outlive their request: WebSockets and upgraded
 * connections. Each keeps its token's hash, and is closed when the token has expired or was
 * revoked.
 */
import { tokenEnded } from '../lend/close-codes.js';
import type { CallerRights } from './routes.js';

export interface Session<R extends CallerRights> {
  readonly rights: R;
  readonly hash: Uint8Array;
  close(code: number, reason: string): void;
}

/** Interval of the checks of tokens, in ms. */
const checkMs = 1000;

export class Sessions<R extends CallerRights> {
  readonly #open = new Set<Session<R>>();
  readonly #holds: (session: Session<R>) => boolean;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param holds true as long as the session's token is valid */
  constructor(holds: (session: Session<R>) => boolean) {
    this.#holds = holds;
  }

  /** Adds a session. Call the returned function when it has ended. */
  add(session: Session<R>): () => void {
    this.#open.add(session);
    this.#timer ??= setInterval(() => this.#check(), checkMs);
    return () => {
      this.#open.delete(session);
      if (this.#open.size === 0) this.#stop();
    };
  }

  /** The number of open sessions whose rights pass `test`. */
  count(test: (rights: R) => boolean): number {
    return [...this.#open].filter(({ rights }) => test(rights)).length;
  }

  /** Closes all of them. */
  close(code: number, reason: string): void {
    for (const session of this.#open) session.close(code, reason);
    this.#stop();
  }

  #check(): void {
    for (const session of this.#open) {
      if (this.#holds(session)) continue;
      this.#open.delete(session);
      session.close(tokenEnded, 'the token has expired or was revoked');
    }
    if (this.#open.size === 0) this.#stop();
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
