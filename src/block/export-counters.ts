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
