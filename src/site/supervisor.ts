/**
 * A running site: starts and stops its segments and computers, tracks their states, and passes on
 * their events and commands.
 */
import { ConsoleFeed } from '../base/console-feed.js';
import { FarbusError, messageOf } from '../base/errors.js';
import type { LogLevel } from '../base/log.js';
import type { Work } from '../base/work.js';
import type { Segment } from '../network/ethernet/segment.js';
import {
  isOver,
  type ComputerRequest,
  type ComputerState,
  type LeaseState,
  type RunningComputer,
  type StartComputer,
  type StartOptions,
} from './computer.js';
import type { ComputerPlan, SegmentPlan, SitePlan } from './plan.js';

/** The state of a computer for display. */
export interface ComputerStatus {
  /** The name of the computer. */
  readonly name: string;
  /** `client` or `server`. */
  readonly role: string;
  /** Its state. */
  readonly state: ComputerState;
  /** Why it is in this state, for people; '' if there is nothing to say. */
  readonly detail: string;
  /** IPv4 address with prefix; undefined if it has none. */
  readonly address: string | undefined;
  /** The leases of its devices. */
  readonly leases: readonly LeaseState[];
}

export interface SiteEvents {
  /** The state of a computer has changed. */
  status(status: ComputerStatus): void;
  output(computer: string, bytes: Uint8Array): void;
  log(computer: string, level: LogLevel, message: string): void;
}

export interface SupervisorOptions extends StartOptions {
  readonly openSegment: (plan: SegmentPlan) => Promise<Segment>;
  readonly start: StartComputer;
  readonly events: SiteEvents;
}

interface Entry {
  readonly plan: ComputerPlan;
  state: ComputerState;
  detail: string;
  leases: readonly LeaseState[];
  running: RunningComputer | undefined;
  console: ConsoleFeed;
  /** True while it is switched off in order to start anew. */
  restarts: boolean;
}

export class Supervisor {
  /** Resolves when all computers have ended. */
  readonly over: Promise<void>;
  readonly #site: SitePlan;
  readonly #options: SupervisorOptions;
  readonly #segments = new Map<string, Segment>();
  readonly #entries = new Map<string, Entry>();
  #allOver: () => void = () => undefined;
  #stopped: Promise<void> | undefined;

  constructor(site: SitePlan, options: SupervisorOptions) {
    this.#site = site;
    this.#options = options;
    this.over = new Promise((resolve) => (this.#allOver = resolve));
    for (const plan of site.computers) {
      const entry: Entry = {
        plan,
        state: 'starting',
        detail: '',
        leases: [],
        running: undefined,
        console: new ConsoleFeed(),
        restarts: false,
      };
      this.#entries.set(plan.name, entry);
    }
  }

  get name(): string {
    return this.#site.name;
  }

  get status(): ComputerStatus[] {
    return [...this.#entries.values()].map(statusOf);
  }

  /**
   * Opens the segments and starts every computer. Rejects with a FarbusError if a segment cannot be
   * opened.
   */
  async start(): Promise<void> {
    for (const plan of this.#site.segments) this.#segments.set(plan.name, await this.#options.openSegment(plan));
    for (const entry of this.#entries.values()) this.#startOne(entry);
  }

  /** Stops every computer, clients before servers, then closes the segments. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= (async () => {
      for (const role of ['client', 'server']) {
        const some = [...this.#entries.values()].filter(({ plan }) => plan.role === role);
        await Promise.all(some.map(({ running }) => running?.stop()));
      }
      for (const segment of this.#segments.values()) await segment.close();
      this.#allOver();
    })();
    return this.#stopped;
  }

  input(computer: string, bytes: Uint8Array): void {
    this.#entry(computer).running?.input(bytes);
  }

  /** @throws FarbusError if the site has no such computer */
  console(computer: string): ConsoleFeed {
    return this.#entry(computer).console;
  }

  /** Stops one computer. Rejects with a FarbusError if the site has no such computer. */
  async stopComputer(computer: string): Promise<void> {
    await this.#entry(computer).running?.stop();
  }

  /** Starts a computer that is over. Rejects with a FarbusError, also if it runs. */
  async startComputer(computer: string): Promise<void> {
    const { state, restarts } = this.#entry(computer);
    if (!isOver(state) && !restarts) throw new FarbusError(`${computer} runs already`);
    await this.restartComputer(computer);
  }

  /**
   * Starts a computer that is over, or switches one off and starts it anew. Rejects with a
   * FarbusError.
   */
  async restartComputer(computer: string): Promise<void> {
    const entry = this.#entry(computer);
    if (entry.restarts) throw new FarbusError(`${computer} is being started anew already`);
    if (isOver(entry.state)) entry.console = new ConsoleFeed();
    entry.restarts = true;
    try {
      await entry.running?.stop();
    } finally {
      entry.restarts = false;
    }
    if (this.#stopped) throw new FarbusError('the site is ending');
    this.#startOne(entry);
  }

  /** Passes a request on to a computer. Rejects with a FarbusError. */
  async control(computer: string, request: ComputerRequest, work: Work): Promise<unknown> {
    const entry = this.#entry(computer);
    if (!entry.running || isOver(entry.state)) throw new FarbusError(`${computer} does not run`);
    return entry.running.control(request, work);
  }

  get leases(): readonly LeaseState[] {
    return [...this.#entries.values()].flatMap(({ leases }) => leases);
  }

  /** Moves the lease of "SERVER/DEVICE". Rejects with a FarbusError. */
  async moveLease(device: string, to: string, work: Work): Promise<void> {
    const [computer = ''] = device.split('/');
    const entry = this.#entry(computer);
    if (!entry.running || isOver(entry.state)) throw new FarbusError(`${computer} does not run`);
    await entry.running.moveLease(device, to, work);
  }

  #startOne(entry: Entry): void {
    const { plan } = entry;
    const { events, start } = this.#options;
    const segment = plan.segment === undefined ? undefined : this.#segments.get(plan.segment);
    // Now: its process tells its state later, and until then it would count as over.
    entry.state = 'starting';
    entry.detail = '';
    try {
      entry.running = start(
        plan,
        segment,
        {
          state: (state, detail) => this.#changed(entry, state, detail),
          output: (bytes) => this.#output(entry, bytes),
          log: (level, message) => events.log(plan.name, level, message),
          leases: (leases) => {
            entry.leases = leases;
          },
        },
        this.#options,
      );
    } catch (error) {
      this.#changed(entry, 'failed', messageOf(error));
    }
  }

  #changed(entry: Entry, state: ComputerState, detail: string): void {
    entry.state = state;
    entry.detail = detail;
    this.#options.events.status(statusOf(entry));
    // A terminal stays open while its computer starts anew.
    if (isOver(state) && !entry.restarts) entry.console.end();
    this.#checkOver();
  }

  #checkOver(): void {
    if ([...this.#entries.values()].every((one) => isOver(one.state) && !one.restarts)) this.#allOver();
  }

  #output(entry: Entry, bytes: Uint8Array): void {
    this.#options.events.output(entry.plan.name, bytes);
    entry.console.add(bytes);
  }

  #entry(computer: string): Entry {
    const entry = this.#entries.get(computer);
    if (entry) return entry;
    const names = [...this.#entries.keys()].join(', ');
    throw new FarbusError(`there is no computer ${JSON.stringify(computer)} in this site: give one of ${names}`);
  }
}

function statusOf({ plan, state, detail, leases }: Entry): ComputerStatus {
  return { name: plan.name, role: plan.role, state, detail, address: plan.address, leases };
}
