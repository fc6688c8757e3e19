/** What an AoE target is told, and what it counts. */
import type { Logger } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { Mac } from '../../../network/ethernet/mac.js';

export interface AoeTargetOptions {
  /** 0 to 65534. */
  readonly shelf: number;
  /** 0 to 254. */
  readonly slot: number;
  /** The port's address. Default: the segment's. */
  readonly mac?: Mac;
  /** Nobody may write, whatever the device can. Default false. */
  readonly readOnly?: boolean;
  /** Every write is durable when it is answered: for initiators that never flush. Default false. */
  readonly writeThrough?: boolean;
  /** Messages that initiators may have under way, 1 to 256. Default 16. */
  readonly bufferCount?: number;
  /** [AoE] 3.2: the config string at first. Default empty. */
  readonly config?: Uint8Array;
  /** What IDENTIFY says. Defaults: "Farbus", "farbus-SHELF.SLOT". */
  readonly model?: string;
  readonly serial?: string;
  /**
   * Names the life of this computer's memory of writes that are not flushed, 8 bytes: the same for as long as it is not
   * lost. Default: random, the life of this target.
   */
  readonly life?: Uint8Array;
  /** Sessions of ours are offered. Default true; false makes it a target as others are. */
  readonly sessions?: boolean;
  readonly log?: Logger;
  /** Is told the steps of [SYS] fig. 10 of each command, under the tag of its message. */
  readonly steps?: Steps;
}

/** What has happened since the target began. */
export interface AoeTargetCounters {
  /** Messages that were answered, or are going to be. */
  commands: number;
  /** Answers with an AoE or ATA error. */
  errors: number;
  bytesRead: number;
  bytesWritten: number;
  /** Copies of commands that were not executed again. */
  copies: number;
  /** Dropped: too old to be known. */
  stale: number;
  /** Dropped: no message of this protocol and version, or none that makes sense. */
  malformed: number;
  /** Dropped: from an address that the mask list does not have. */
  masked: number;
  /** Dropped: more were being executed than can be. */
  overload: number;
}
