/**
 * Sessions of the clients of a device that is served to others. A session is the sequence of
 * connections that one client opens one after the other. Its client names it in the protocol (NBD:
 * the metadata context farbus:session).
 *
 * A new connection is admitted only after every request that earlier connections had in flight is
 * finished or dropped. Otherwise a write that the client repeats on the new connection could be
 * overtaken by its first copy.
 */

/** A connection, as its session sees it. */
export interface SessionMember {
  /**
   * Closes the connection and drops requests that have not begun. Resolves when none of its
   * requests runs any more.
   */
  fence(): Promise<void>;
}

/** For how many sessions without a connection the losses are remembered. */
const maxRemembered = 4096;

export class SessionRegistry {
  /**
   * Identifies the lifetime of the server's volatile write cache: if it differs after a reconnect,
   * unflushed writes may be lost. At most 64 characters of [A-Za-z0-9.-].
   */
  readonly state: string;
  readonly #waitMs: number;
  readonly #members = new Map<string, Set<SessionMember>>();

  /**
   * For each session, the loss epoch that its client has been told of (block/losses.ts). In order
   * of use, the latest last.
   */
  readonly #seen = new Map<string, number>();

  /** @param waitMs how long a new connection waits for requests of earlier ones, in ms */
  constructor(state = '', waitMs = 30_000) {
    this.state = /^[A-Za-z0-9.-]{0,64}$/.test(state) ? state : '';
    this.#waitMs = waitMs;
  }

  /**
   * Makes `member` the session's connection and fences all earlier ones. Every call needs a later
   * {@link leave}, when no request of the member runs any more.
   * @returns false if a request of an earlier connection did not end in time: the member must not
   *   go on
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

  /**
   * The loss epoch that the session's client was told of on earlier connections. Undefined for a
   * new session.
   */
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
   * Removes a member whose requests have all ended.
   * @param losses the loss epoch of the device that its client was told of; undefined if the member
   *   never entered transmission
   */
  leave(id: string, member: SessionMember, losses?: number): void {
    const key = id.toLowerCase();
    const members = this.#members.get(key);
    if (losses !== undefined) this.#remember(key, losses);
    if (members?.delete(member) && members.size === 0) this.#members.delete(key);
  }
}
