/**
 * Fault filter: makes a device fail or stall by rules, so that what stands on it can be tried against a bad disk without
 * a device being changed for it. The first rule that matches a request and fires decides.
 */
import { usageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { BlockError, type BlockErrorKind } from '../errors.js';
import { Filter, type BlockOperation, type BlockRequest } from './filter.js';
import { seededRandom } from './random.js';
import { waitFor } from './wait.js';

export interface FaultRule {
  /** The kinds of request it is about; without: all. */
  readonly on?: readonly BlockOperation[] | undefined;
  /** Only requests that touch these bytes. A flush touches none. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
  /** So many matching requests pass first. Default 0. */
  readonly skip?: number | undefined;
  /** It fires so often at most. Default: always. */
  readonly count?: number | undefined;
  /** Chance that a matching request is hit, 0 to 1. Default 1. */
  readonly probability?: number | undefined;
  /**
   * What happens: the request fails with this kind; or it `stall`s until {@link FaultFilter.release}, its signal, or
   * close.
   */
  readonly action: BlockErrorKind | 'stall';
  /** The request takes effect and fails then, as if its answer were lost. Default false. */
  readonly afterEffect?: boolean | undefined;
}

/** A rule in force. */
export interface FaultHandle {
  /** How often it fired. */
  readonly hits: number;
  /** Takes the rule out. Requests that it stalled stay so until released. */
  remove(): void;
}

interface Active {
  readonly rule: FaultRule;
  matches: number;
  hits: number;
}

export class FaultFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #random: () => number;
  readonly #rules = new Set<Active>();
  readonly #stalled = new Set<() => void>();
  #closing = false;

  /** @param options `seed` of the rules' chances, default 1: the same seed and requests give the same faults. */
  constructor(next: BlockDevice, rules: readonly FaultRule[] = [], options: { seed?: number | undefined } = {}) {
    super(next);
    this.#random = seededRandom(options.seed ?? 1);
    for (const rule of rules) this.add(rule);
  }

  /** Puts a rule in force, after those that are. */
  add(rule: FaultRule): FaultHandle {
    const { probability = 1 } = rule;
    if (!(probability >= 0 && probability <= 1)) {
      throw usageError(`fault: probability ${probability} is not between 0 and 1: give a part of 1`);
    }
    const active: Active = { rule, matches: 0, hits: 0 };
    this.#rules.add(active);
    return {
      get hits() {
        return active.hits;
      },
      remove: () => void this.#rules.delete(active),
    };
  }

  /** Takes all rules out and releases what is stalled. */
  clear(): void {
    this.#rules.clear();
    this.release();
  }

  /** How many requests are stalled. */
  get stalled(): number {
    return this.#stalled.size;
  }

  /** Lets the stalled requests go on to the next device. */
  release(): void {
    for (const go of [...this.#stalled]) go();
  }

  override close(): Promise<void> {
    // Close waits for what is under way, and what is stalled would never end.
    this.#closing = true;
    this.release();
    return super.close();
  }

  protected override async around<T>(request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    const rule = this.#hit(request);
    if (!rule) return pass();
    if (rule.action === 'stall') {
      await this.#stall(request);
      return pass();
    }
    if (rule.afterEffect) await pass();
    throw new BlockError(rule.action, `injected fault: ${request.op} fails`);
  }

  async #stall({ op, options }: BlockRequest): Promise<void> {
    if (!this.#closing) {
      let go: () => void;
      await waitFor(options.signal, (done) => {
        go = done;
        this.#stalled.add(go);
        return () => this.#stalled.delete(go);
      }).finally(() => this.#stalled.delete(go));
    }
    if (this.#closing) throw new BlockError('closed', `the device was closed while the ${op} was stalled`);
  }

  #hit(request: BlockRequest): FaultRule | undefined {
    for (const active of this.#rules) {
      const { rule } = active;
      if (!matches(rule, request) || active.hits >= (rule.count ?? Infinity)) continue;
      if (active.matches++ < (rule.skip ?? 0)) continue;
      if (rule.probability !== undefined && this.#random() >= rule.probability) continue;
      active.hits++;
      return rule;
    }
    return undefined;
  }
}

function matches({ on, range }: FaultRule, { op, offset, length }: BlockRequest): boolean {
  if (on && !on.includes(op)) return false;
  return !range || (offset < range.offset + range.length && range.offset < offset + length);
}
