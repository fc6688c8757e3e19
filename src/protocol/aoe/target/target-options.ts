/** Options and counters of an AoE target. */
import type { Logger } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { Mac } from '../../../network/ethernet/mac.js';

/** Options of an AoE target. */
export interface AoeTargetOptions {
  /** 0 to 65534. */
  readonly shelf: number;
  /** 0 to 254. */
  readonly slot: number;
  /** MAC address of the port. Default: the segment's. */
  readonly mac?: Mac;
  /** Refuse writes even if the device allows them. Default false. */
  readonly readOnly?: boolean;
  /**
   * Make every write durable before answering it, for initiators that never flush. Default false.
   */
  readonly writeThrough?: boolean;
  /** Number of messages that initiators may have in flight, 1 to 256. Default 16. */
  readonly bufferCount?: number;
  /** [AoE] 3.2: initial config string. Default empty. */
  readonly config?: Uint8Array;
  /** Model and serial number for IDENTIFY. Defaults: "Farbus", "farbus-SHELF.SLOT". */
  readonly model?: string;
  /** Serial number for IDENTIFY. Default: "farbus-SHELF.SLOT". */
  readonly serial?: string;
  /**
   * Identifies the memory that holds unflushed writes, 8 bytes. It must change when that memory is
   * lost. Default: random, so it changes with each target.
   */
  readonly memory?: Uint8Array;
  /** Offer Farbus sessions. Default true; false makes this a plain AoE target. */
  readonly sessions?: boolean;
  /** Receives warnings. Default: nothing is logged. */
  readonly log?: Logger;
  /** Receives the steps of [SYS] fig. 10 for each command, under the tag of its message. */
  readonly steps?: Steps;
}

/** Counters since the start of the target. */
export interface AoeTargetCounters {
  /** Messages that were answered. */
  commands: number;
  /** Answers that carry an AoE or ATA error. */
  errors: number;
  /** Bytes sent in answers to reads. */
  bytesRead: number;
  /** Bytes of writes that succeeded. */
  bytesWritten: number;
  /** Recognised copies of commands, which were not executed again. */
  copies: number;
  /** Dropped: the tag is older than the session remembers. */
  stale: number;
  /**
   * Dropped: truncated, reserved flags set, or addressed in a way that the command does not allow.
   */
  malformed: number;
  /** Dropped: the mask list does not have the sender's address. */
  masked: number;
  /** Dropped: the maximum number of commands was in flight. */
  overload: number;
}
