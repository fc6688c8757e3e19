/**
 * Sessions of an export (spec.ts, `sessionContext`): the connections that one client opens one after the other. A new
 * one is let in only when whatever its predecessors still had under way has been finished or dropped, so that a write
 * repeated on it can never be overtaken by its older self (design: what a remote disk must never do, 2).
 */

/** A connection as its session sees it. */
export interface SessionMember {
  /** Hangs up and drops what has not begun; resolves when nothing of it is running any more. */
  fence(): Promise<void>;
}

/** Sessions without a connection whose losses are remembered. */
const maxRemembered = 4096;

export class SessionRegistry {
  /**
   * What names the life of the server's memory of unflushed writes: where it is another after a reconnect, unflushed
   * writes may be lost. At most 64 characters of [A-Za-z0-9.-].
   */
  readonly state: string;
  readonly #waitMs: number;
  readonly #members = new Map<string, Set<SessionMember>>();

  /** By session, the latest last: the epoch of losses that its client was told of (block/losses.ts). */
  readonly #seen = new Map<string, number>();

  /** @param waitMs How long a new connection waits for its predecessors' requests. */
  constructor(state = '', waitMs = 30_000) {
    this.state = /^[A-Za-z0-9.-]{0,64}$/.test(state) ? state : '';
    this.#waitMs = waitMs;
  }

  /**
   * Makes `member` the session's connection: all earlier ones are fenced. Every call is to be followed by a
   * {@link leave}, when nothing of the member is running any more.
   * @returns false if an earlier one had something running for too long: the member must not go on.
   */
  async join(id: string, member: SessionMember): Promise<boolean> {
    const key = id.toLowerCase();
    const members = this.#members.get(key) ?? new Set();
    this.#members.set(key, members);
    const earlier = [...members].filter((one) => one !== member);
    members.add(member);
    if (earlier.length === 0) return true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), this.#waitMs);
    });
    const fenced = Promise.all(earlier.map((one) => one.fence())).then(() => true);
    try {
      return await Promise.race([fenced, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The losses that a session's client was told of on its earlier connections; undefined for a session that is new. */
  seenLosses(id: string): number | undefined {
    return this.#seen.get(id.toLowerCase());
  }

  #remember(key: string, losses: number): void {
    this.#seen.delete(key);
    this.#seen.set(key, losses);
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > maxRemembered) this.#seen.delete(oldest!);
  }

  /**
   * A member is gone. @param losses The epoch of the device's losses that its client was told of; undefined if it was never
   * in transmission.
   */
  leave(id: string, member: SessionMember, losses?: number): void {
    const key = id.toLowerCase();
    const members = this.#members.get(key);
    if (losses !== undefined) this.#remember(key, losses);
    if (members?.delete(member) && members.size === 0) this.#members.delete(key);
  }
}
