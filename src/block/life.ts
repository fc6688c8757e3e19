/**
 * A life: the use of one source by one process. A killed process may leave writes in flight at a
 * server, which later overwrite the data of its successor. A fence key names a place where such
 * writes can be (a session, a process on the server) and is durable before the first write goes
 * there. So the next process that opens the source can fence the place before it writes.
 *
 * Not here: fencing (fence.ts), the storage of keys (storage/lives.node.ts keeps them in files).
 */

/**
 * The data with which a protocol fences a place. The protocol must check each value, because a user
 * who can write the file can forge it.
 */
export type FenceKey = Readonly<Record<string, string | number>>;

/**
 * The state of a fenced place: its writes are `gone`, or it will always be `unknown` whether they
 * are.
 */
export type Fate = 'gone' | 'unknown';

/** A life that has ended without closing its source in good order. */
export interface EndedLife {
  /** Its process id, for messages; 0 if unknown. */
  readonly pid: number;
  /** Its keys; undefined if they cannot be read. */
  readonly keys: readonly FenceKey[] | undefined;
}

export interface Life {
  /** Ended lives of this source, which must be fenced before the first write. */
  readonly ended: readonly EndedLife[];
  /** False if keys cannot be kept: there may then be ended lives without a record. */
  readonly kept: boolean;
  /**
   * Records a key. Resolves when it is durable, or after a warning that it cannot be. Never
   * rejects.
   */
  note(key: FenceKey): Promise<void>;
  /**
   * Drops a key whose place cannot have writes any more. Takes effect with the next {@link note}
   * or {@link close}.
   */
  forget(key: FenceKey): void;
  /**
   * Drops an ended life that has been fenced, or of which a warning has said that it cannot be.
   * Never rejects.
   */
  fenced(ended: EndedLife): Promise<void>;
  /**
   * The source has been closed. Unless no write was in flight (`clean`), the next life must fence
   * this one. Never rejects. The source may be opened again in the same life.
   */
  close(clean: boolean): Promise<void>;
}
