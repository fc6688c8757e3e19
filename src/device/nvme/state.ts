/** What a snapshot keeps of the controller. Plain data. No command is in flight when it is taken. */
import type { RegisterFile } from './registers.js';
import type { CompletionQueueState, SubmissionQueueState } from './queues.js';

export interface NvmeState {
  readonly registers: RegisterFile;
  readonly features: readonly (readonly [number, number])[];
  readonly submissionQueues: readonly SubmissionQueueState[];
  readonly completionQueues: readonly CompletionQueueState[];
  /** Command identifiers of the Asynchronous Event Requests that wait. */
  readonly eventRequests: readonly number[];
}
