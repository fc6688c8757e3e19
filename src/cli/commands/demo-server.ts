/**
 * The server computer of the demo: OS 2 on hypervisor 2 in its own process, started in the same way
 * as by `farbus up`.
 */
import { FarbusError } from '../../base/errors.js';
import { SerialConsole } from '../../computer/console.js';
import type { Segment } from '../../network/ethernet/segment.js';
import type { ComputerState, RunningComputer } from '../../site/computer.js';
import type { ComputerPlan } from '../../site/plan.js';
import { macOf } from '../../app/config/site.js';
import { inOwnProcess } from '../../app/site/start.js';

/** Memory of the server computer, in bytes. */
const memory = 128 << 20;

/** The plan of the demo's server computer. */
export interface DemoServerOptions {
  readonly segment: string;
  /** IP address of OS 2. */
  readonly address: string;
  readonly snapshot: string;
  readonly devices: ComputerPlan['devices'];
}

export function demoServerPlan({ segment, address, snapshot, devices }: DemoServerOptions): ComputerPlan {
  return {
    name: 'server',
    role: 'server',
    engine: 'v86', // its system is Debian 11
    processors: 1,
    memory,
    system: {
      bios: false,
      uefi: false,
      uefiVariables: undefined,
      debian: 11,
      with: [],
      kernel: undefined,
      initrd: undefined,
      append: undefined,
      ready: undefined,
    },
    segment,
    mac: macOf('demo', 'server'),
    address: `${address}/24`,
    drives: [{ kind: 'text', text: 'memory:16M', bus: 'nvme' }],
    devices,
    snapshot,
    reconnectSeconds: 60,
  };
}

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
