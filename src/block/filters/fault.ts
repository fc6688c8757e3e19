/**
 * Fault filter: makes requests fail or stall according to rules, to test the layers above against a
 * bad disk. The first rule that matches a request and fires decides. It must see every request, so
 * it passes on no synchronous transfers and no file ranges.
 */
import { usageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { BlockError, type BlockErrorKind } from '../errors.js';
import { Filter, type BlockOperation, type BlockRequest } from './filter.js';
import { seededRandom } from '../../base/random.js';
import { waitFor } from './wait.js';

/** Which requests fail, and how. */
export interface FaultRule {
  /** The kinds of request that match. Default: all. */
  readonly on?: readonly BlockOperation[] | undefined;
  /** Only requests that touch these bytes match. A flush touches none. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
  /** Number of matching requests that pass before the rule fires. Default 0. */
  readonly skip?: number | undefined;
  /** The rule fires at most so often. Default: no limit. */
  readonly count?: number | undefined;
  /** Probability that the rule fires on a matching request, 0 to 1. Default 1. */
  readonly probability?: number | undefined;
  /**
   * The effect: the request fails with this kind of error, or (`stall`) it waits until {@link
   * FaultFilter.release}, its signal or `close` ends the wait.
   */
  readonly action: BlockErrorKind | 'stall';
  /**
   * If true, the request first takes effect and then fails, as if its answer were lost. Default
   * false.
   */
  readonly afterEffect?: boolean | undefined;
}

/** A rule that has been added to a filter. */
export interface FaultHandle {
  /** How often the rule has fired. */
  readonly hits: number;
  /** Removes the rule. Requests that it has stalled stay stalled until released. */
  remove(): void;
}

interface Active {
  readonly rule: FaultRule;
  matches: number;
  hits: number;
}

/** Makes chosen requests fail, wait or be unsupported, for tests. */
export class FaultFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #random: () => number;
  readonly #rules = new Set<Active>();
  readonly #stalled = new Set<() => void>();
  #closing = false;

  /**
   * @param options `seed` of the random numbers, default 1: the same seed and requests give the
   * same faults
   */
  constructor(next: BlockDevice, rules: readonly FaultRule[] = [], options: { seed?: number | undefined } = {}) {
    super(next);
    this.#random = seededRandom(options.seed ?? 1);
    for (const rule of rules) this.add(rule);
  }

  /** Adds a rule after the existing ones. */
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

  /** Removes all rules and releases the stalled requests. */
  clear(): void {
    this.#rules.clear();
    this.release();
  }

  /** Number of stalled requests. */
  get stalled(): number {
    return this.#stalled.size;
  }

  /** Passes the stalled requests on to the next device. */
  release(): void {
    for (const go of [...this.#stalled]) go();
  }

  override close(): Promise<void> {
    // `close` waits for requests in flight, and a stalled one would never end.
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
