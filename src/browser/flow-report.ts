/** Reports to a page about the flow of a computer's commands (flow.ts). */
import type { Step } from '../base/steps.js';
import type { ComputerCounts } from '../computer/options.js';

/** The activity of a computer since the last report. */
export interface FlowReport {
  /** Time of `performance.now()` in the worker, in ms. */
  readonly time: number;
  /** Counts since the start of the computer. */
  readonly counts: ComputerCounts;
  /** Steps of the first commands of the interval. */
  readonly steps: readonly Step[];
}
