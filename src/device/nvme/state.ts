/**
 * The part of a snapshot that holds the NVMe controller, as plain data. A snapshot is taken only
 * while no command is in flight, so it holds none.
 */
import type { RegisterFile } from './registers.js';
import type { CompletionQueueState, SubmissionQueueState } from './queues.js';
import type { ShadowState } from './shadow-doorbells.js';

export interface NvmeState {
  readonly registers: RegisterFile;
  readonly features: readonly (readonly [number, number])[];
  readonly submissionQueues: readonly SubmissionQueueState[];
  readonly completionQueues: readonly CompletionQueueState[];
  /** Command identifiers of the Asynchronous Event Requests that wait for an event. */
  readonly eventRequests: readonly number[];
  /** Undefined if the driver has not configured them. */
  readonly shadowDoorbells?: ShadowState | undefined;
}
