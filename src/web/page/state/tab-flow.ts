/**
 * Makes commands for the picture of the flow from the steps that a computer in this tab reports
 * ([SYS] fig. 6 and 8).
 */
import type { Step, TraceId } from '../../../base/steps.js';
import type { FlowReport } from '../../../browser/flow-report.js';
import type { Command } from '../flow/command.js';
import { addOwn } from './commands.js';

/** Commands without an end that are kept: those in flight, and those whose end was not reported. */
const mostOpen = 200;

let serial = 0;

export class TabFlow {
  readonly #client: string;
  readonly #disk: string | undefined;
  readonly #open = new Map<TraceId, Step[]>();

  /** @param disk the name of the only disk; undefined if there are several */
  constructor(client: string, disk: string | undefined) {
    this.#client = client;
    this.#disk = disk;
  }

  take({ time, steps }: FlowReport): void {
    // The worker's clock begins with the worker.
    const clock = Date.now() - time;
    const done: Command[] = [];
    for (const step of steps) {
      if (step.traceId === 0) continue;
      const before = this.#open.get(step.traceId);
      if (before) before.push(step);
      // A command whose begin was not reported is left out.
      else if (step.id === '213') this.#open.set(step.traceId, [step]);
      if (step.id === 'end' && before) {
        this.#open.delete(step.traceId);
        const command = this.#commandOf(before, clock);
        if (command) done.push(command);
      }
    }
    while (this.#open.size > mostOpen) this.#open.delete(this.#open.keys().next().value!);
    addOwn(done);
  }

  #commandOf(steps: readonly Step[], clock: number): Command | undefined {
    const at = (...ids: readonly string[]): Step | undefined => steps.find(({ id }) => ids.includes(id));
    const first = steps[0]!;
    const sent = at('262', '264');
    const answered = at('263', '265', '26x');
    const end = at('end')!;
    const { command } = at('261') ?? {};
    if (!sent || !answered || !command) return undefined;
    return {
      key: `tab-${++serial}`,
      kind: command.operation,
      disk: this.#disk ?? '',
      client: this.#client,
      began: clock + first.time,
      offset: command.length > 0 ? command.offset : undefined,
      length: command.length,
      ms: end.time - first.time,
      parts: {
        computer: sent.time - first.time,
        network: answered.time - sent.time,
        completion: end.time - answered.time,
      },
      failed: answered.id === '26x' ? answered.detail : undefined,
    };
  }
}
