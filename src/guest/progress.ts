/** Progress reports of long work. */

/** Progress of one piece of work. */
export interface Progress {
  /** The work in a few words: "linux-image-686". */
  readonly label: string;
  /** Bytes done and in all. `done` reaches `total` at the end and restarts if an attempt failed. */
  readonly done: number;
  /** Bytes in all. */
  readonly total: number;
}

/** Receives progress. Must not throw. */
export type OnProgress = (progress: Progress) => void;
