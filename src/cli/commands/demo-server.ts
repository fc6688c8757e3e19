/**
 * The server computer of the demo: OS 2 on hypervisor 2 in its own process, started in the same way
 * as by `farbus up`.
 */
import { FarbusError } from '../../base/errors.js';
import { SerialConsole } from '../../computer/console.js';
import type { Segment } from '../../network/ethernet/segment.js';
import type { ComputerState, RunningComputer } from '../../site/computer.js';
import type { ComputerPlan } from '../../site/plan.js';
import { inOwnProcess } from '../../app/site/start.js';

/** Time limit for the start of OS 2, in ms. */
const startLimit = 300_000;

export class DemoServer {
  readonly console: SerialConsole;
  readonly #computer: RunningComputer;
  readonly #changed = new Set<() => void>();
  #state: ComputerState = 'starting';
  #detail = '';

  private constructor(plan: ComputerPlan, segment: Segment) {
    const events = {
      state: (state: ComputerState, detail: string) => {
        this.#state = state;
        this.#detail = detail;
        for (const changed of this.#changed) changed();
      },
      output: (bytes: Uint8Array) => bytes.forEach((byte) => this.console.receive(byte)),
      log: () => undefined,
      leases: () => undefined,
    };
    this.#computer = inOwnProcess(plan, segment, events, { traceFolder: undefined, renewSnapshot: true });
    this.console = new SerialConsole(async (bytes) => this.#computer.input(bytes));
  }

  /**
   * Starts it, from its snapshot if that is usable. Resolves with a text about how it was started.
   */
  static async start(plan: ComputerPlan, segment: Segment): Promise<{ server: DemoServer; detail: string }> {
    const server = new DemoServer(plan, segment);
    try {
      await server.#up();
      return { server, detail: server.#detail };
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  stop(): Promise<void> {
    return this.#computer.stop();
  }

  async #up(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const look = (): void => {
          if (this.#state === 'running') resolve();
          else if (this.#state !== 'starting' && this.#state !== 'booting') {
            reject(new FarbusError(`the server computer did not start: ${this.#detail || this.#state}`));
          }
        };
        timer = setTimeout(() => reject(new FarbusError('the server computer did not start in time')), startLimit);
        this.#changed.add(look);
        look();
      });
    } finally {
      clearTimeout(timer);
      this.#changed.clear();
    }
  }
}
