/**
 * The lock of a storage engine that lets one client write a disk at a time, on whatever computer
 * that client is. It is a fence: the engine refuses the requests of a client that has lost it.
 *
 * Not here: one writer among the clients of one server (filters/lease.ts).
 */

/** The client of the storage engine that has the lock. */
export interface LockHolder {
  /** True if it is this device. */
  readonly own: boolean;
  /** Its name, for example "client.4123". */
  readonly client: string;
  /** Its network address, as the engine writes it. */
  readonly address: string;
  /** The name of its lock, by which two locks of one client differ. */
  readonly cookie: string;
}

/** A lock that lets one client of a storage engine write a disk. */
export interface WriterLock {
  /** The present holder; undefined if no client has the lock. Rejects if the engine is silent. */
  holder(): Promise<LockHolder | undefined>;
  /** Set if the lock is taken when a client of ours begins to use the disk, not at its opening. */
  readonly takeOver?: TakeOver | undefined;
}

/**
 * Takes the lock from whoever has it. Changes are refused with kind `closed` without the lock, and
 * all requests once another client has taken it.
 */
export interface TakeOver {
  /**
   * Names the storage, equally for all servers that use it. At most 50 characters of
   * [A-Za-z0-9.-].
   */
  readonly storage: string;
  /**
   * True if the disk serves requests, and for `writes` has the lock. Asks the engine.
   */
  ready(writes: boolean): Promise<boolean>;
  /**
   * True if {@link take} must open the disk anew. Then no request that came before may still run:
   * it could be overtaken by those of the other client, and would land on them.
   */
  readonly spent: boolean;
  /** Makes the disk ready. For `writes` no earlier holder can change the disk any more. */
  take(writes: boolean): Promise<void>;
  /** Called when another client has taken the lock. */
  onLost: () => void;
}
