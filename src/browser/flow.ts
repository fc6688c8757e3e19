/**
 * Reports the flow of a computer's commands to the page: counters, and the steps of a few commands.
 * Steps cost time, so only the first commands of each interval have them.
 */
import type { Step } from '../base/steps.js';
import type { FlowReport } from './flow-report.js';
import type { Machine } from './machine.js';

/** Interval of the reports, in ms. */
const everyMs = 500;
/** Most steps of one report. A command has some twelve. */
const maxSteps = 120;

export class FlowWatch {
  readonly #machine: Machine;
  readonly #timer: ReturnType<typeof setInterval>;
  #steps: Step[] = [];
  #on = false;
  readonly #sink = {
    step: (step: Step): void => {
      if (this.#steps.push(step) >= maxSteps) this.#collect(false);
    },
  };

  constructor(machine: Machine, report: (report: FlowReport) => void) {
    this.#machine = machine;
    this.#collect(true);
    this.#timer = setInterval(() => {
      report({ time: performance.now(), counts: machine.computer.counts, steps: this.#steps });
      this.#steps = [];
      this.#collect(true);
    }, everyMs);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#collect(false);
  }

  #collect(on: boolean): void {
    if (on === this.#on) return;
    this.#on = on;
    if (on) this.#machine.steps.add(this.#sink);
    else this.#machine.steps.remove(this.#sink);
  }
}
