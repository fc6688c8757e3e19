/** Counters of a device that is served, which exports and the targets of protocols share. */

/** Counters of an export since it was opened. */
export interface ExportCounters {
  /** Connections that have used it. */
  connections: number;
  /** Requests received, including refused ones. */
  requests: number;
  /** Requests answered with an error. */
  errors: number;
  /** Bytes sent in replies to reads. */
  bytesRead: number;
  /** Bytes of writes that succeeded. */
  bytesWritten: number;
}

/** Counters of one connection's use of an export. */
export interface ClientCounters {
  /** Requests received, including refused ones. */
  requests: number;
  /** Bytes sent in replies to reads. */
  bytesRead: number;
  /** Bytes of writes that succeeded. */
  bytesWritten: number;
  /**
   * When its last write, zeroing or trim succeeded, in ms of performance.now(), which no change of
   * the clock moves. Undefined if none has.
   */
  lastWrite: number | undefined;
}

/** The counters of a connection that has done nothing yet. */
export function newClientCounters(): ClientCounters {
  return { requests: 0, bytesRead: 0, bytesWritten: 0, lastWrite: undefined };
}
