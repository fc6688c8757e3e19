/** A long request over a control socket, as its handler sees it. */
export interface Work {
  /**
   * Aborts when the client withdraws the request. The handler may finish a step that it cannot
   * undo.
   */
  readonly signal: AbortSignal;
  /** Says what the work waits for from now on; the text is shown to the client while it waits. */
  waitsFor(what: () => string): void;
}
