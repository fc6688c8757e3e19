/** A request that takes its time, as the one sees it who does the work. */
export interface Work {
  /** Raised when the request is withdrawn. What cannot be undone any more goes on. */
  readonly signal: AbortSignal;
  /** Says for what the work waits, from now on. */
  waitsFor(what: () => string): void;
}
