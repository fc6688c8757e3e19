/** Options and counters of a link to a target. */
import type { Logger } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { Life } from '../../../block/life.js';
import type { ContentWitness } from '../../../block/witness.js';
import type { Mac } from '../../../network/ethernet/mac.js';
import type { RemoteState } from '../../remote/reconnection.js';

export interface LinkOptions {
  readonly shelf: number;
  readonly slot: number;
  readonly mac: Mac | undefined;
  readonly connectSeconds: number;
  /** Ends the first search for the target. */
  readonly signal: AbortSignal | undefined;
  readonly reconnectSeconds: number;
  /** Time that a command may go unanswered while the target answers others, in seconds. */
  readonly commandSeconds: number;
  /** Maximum time that a frame can be in the network, in ms (quarantine.ts). */
  readonly frameLifetimeMs: number;
  /**
   * Watches requests to recognise the disk when the target is found again. Undefined: accept any
   * disk.
   */
  readonly witness: ContentWitness | undefined;
  /**
   * Stores the fence key of each session before it is used, and says if earlier sessions are known.
   * Undefined: no fence.
   */
  readonly life: Life | undefined;
  readonly log: Logger;
  readonly steps: Steps;
  readonly onState: (state: RemoteState, detail: string) => void;
}

/** Counters since the link was opened. */
export interface LinkCounters {
  /** Messages with commands, and how many of them were repeated. */
  sent: number;
  /** Messages that were sent again. */
  repeated: number;
  /** Answers without a command in flight: late ones and copies. */
  late: number;
  /** Invalid messages, or messages from another MAC address. */
  malformed: number;
}
