/**
 * Times of a command, from the driver's write that issues it to the moment the driver consumes the
 * completion. Used for `--trace` and latency figures.
 */

/** Times of one command, in ms of `performance.now()`. */
export interface CommandTimes {
  readonly traceId: number;
  readonly opcode: number;
  /** The driver's write left the guest (trap). */
  readonly trapped: number;
  /** The controller passed the command to the virtual I/O client. */
  readonly issued: number;
  /** The virtual I/O client had carried the command out. */
  readonly answered: number;
  /**
   * The controller learned that the driver consumed the completion: with shadow doorbells only when
   * it looks at them next.
   */
  readonly consumed: number;
}
