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

/** A session's name: a UUID as text. */
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether `text` is a UUID in its usual form. */
export function isSessionId(text: string): boolean {
  return uuid.test(text);
}

export class SessionRegistry {
  /**
   * What names the life of the server's memory of unflushed writes: where it is another after a reconnect, unflushed
   * writes may be lost. At most 64 characters of [A-Za-z0-9.-].
   */
  readonly state: string;
  readonly #waitMs: number;
  readonly #members = new Map<string, Set<SessionMember>>();

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

  leave(id: string, member: SessionMember): void {
    const key = id.toLowerCase();
    const members = this.#members.get(key);
    if (members?.delete(member) && members.size === 0) this.#members.delete(key);
  }
}
