/** Progress of long work, for whoever draws it. */

/** How far one piece of work is. */
export interface Progress {
  /** What is being done, in a few words: "linux-image-686". */
  readonly label: string;
  /** Bytes; `done` reaches `total` at the end and may begin again where an attempt failed. */
  readonly done: number;
  readonly total: number;
}

export type OnProgress = (progress: Progress) => void;
