/**
 * A life: one process's use of one source. A process that is killed may leave writes under way at a server, which land
 * later on top of what its successor writes. A mark names a place where such writes can be (a session, a process on the
 * server), and is durable before the first write goes there. So the next process that opens the source can fence the
 * place before it writes (fence.ts). Where marks are kept is the caller's business (storage/lives.node.ts: files).
 */

/** What a protocol needs to fence a place. The protocol checks each value: whoever can write the file can forge it. */
export type Mark = Readonly<Record<string, string | number>>;

/** Whether what was left at a place can still write: it is `gone`, or that is `unknown` for good. */
export type Fate = 'gone' | 'unknown';

/** A life that ended without closing its source. */
export interface EndedLife {
  /** Its process, for messages; 0 if it is not known. */
  readonly pid: number;
  /** Undefined: they cannot be read. */
  readonly marks: readonly Mark[] | undefined;
}

export interface Life {
  /** Lives of the same source that are to be fenced before the first write. */
  readonly ended: readonly EndedLife[];
  /** False: marks cannot be kept, so there may be ended lives that nothing tells of. */
  readonly kept: boolean;
  /** Keeps a mark. Resolves when it is durable, or when a warning has said that it cannot be; it never rejects. */
  note(mark: Mark): Promise<void>;
  /** Nothing can write at that place any more. Takes effect with the next {@link note} or {@link close}. */
  forget(mark: Mark): void;
  /** An ended life is fenced, or a warning has said that it cannot be. It never rejects. */
  fenced(ended: EndedLife): Promise<void>;
  /**
   * The source is closed. Unless it was with nothing under way (`clean`), the next life fences this one. It never rejects.
   * A source may be opened again in the same life.
   */
  close(clean: boolean): Promise<void>;
}
