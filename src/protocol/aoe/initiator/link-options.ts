/** What a link to a target is told, and what it tells. */
import type { Logger } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { ContentWitness } from '../../../block/witness.js';
import type { Mac } from '../../../network/ethernet/mac.js';

/**
 * `connected`; `reconnecting`: the target does not answer, and requests wait; `lost`: the time for that is over and
 * requests fail at once, though it goes on trying; `closed`.
 */
export type AoeState = 'connected' | 'reconnecting' | 'lost' | 'closed';

export interface LinkOptions {
  readonly shelf: number;
  readonly slot: number;
  readonly mac: Mac | undefined;
  readonly connectSeconds: number;
  /** Gives up looking for the target at first. */
  readonly signal: AbortSignal | undefined;
  readonly reconnectSeconds: number;
  /** How long a single command may be without an answer of a target that is there. */
  readonly commandSeconds: number;
  /** How long a frame can be on its way at most: quarantine.ts. */
  readonly frameLifetimeMs: number;
  /** Watches the requests, to recognise the disk when a target is found again. Undefined: any disk there is taken. */
  readonly witness: ContentWitness | undefined;
  readonly log: Logger;
  readonly steps: Steps;
  readonly onState: (state: AoeState, detail: string) => void;
}

/** What has happened since the link was opened. */
export interface LinkCounters {
  /** Messages with commands, and how many of them were sent again. */
  sent: number;
  repeated: number;
  /** Answers to nothing that is under way: late ones and copies. */
  late: number;
  /** Messages that made no sense, or were from somebody else. */
  malformed: number;
}
