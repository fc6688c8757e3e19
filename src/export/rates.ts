/**
 * Present rates of exports and of their clients: how much their counters have grown in the last
 * seconds. All counters are read once a second, so requests pay nothing for it.
 *
 * Latencies come from the histograms of the exports' meters (meter.ts), so only exports that are
 * metered have them. Each is the upper bound of a bucket.
 */
import type { Exports, Offered } from './exports.js';
import { latencyBounds, type MeterFilter } from './meter.js';

/** Growth per second. */
export interface Rates {
  /** Requests. */
  readonly requests: number;
  /** Bytes. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /**
   * Time that the device took, in seconds: that of half of the requests is at most `p50`, and that
   * of 99 % at most `p99`. Absent if it is not measured, or there were no requests.
   */
  readonly latency?: { readonly p50: number; readonly p99: number };
}

/** The counters of an export or of a client. */
type Counters = Pick<Offered['counters'], 'requests' | 'bytesRead' | 'bytesWritten'>;

interface Sample extends Counters {
  /** In ms of performance.now(). */
  readonly at: number;
  /** Number of requests in each bucket of the meter. */
  readonly buckets: readonly number[];
}

/** Interval of reading the counters, in ms. */
const intervalMs = 1000;
/** Samples that are kept: the oldest is two to three intervals old. */
const keptSamples = 3;

export class RateSampler {
  readonly #exports: Exports;
  #samples = new Map<Counters, readonly Sample[]>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(exports: Exports) {
    this.#exports = exports;
  }

  /** Begins to read the counters. The timer does not keep the process running. */
  start(): void {
    this.#timer ??= setInterval(() => this.sample(), intervalMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Reads all counters. @param at the present time, in ms of performance.now() */
  sample(at = performance.now()): void {
    const next = new Map<Counters, readonly Sample[]>();
    const add = (counters: Counters, meter?: MeterFilter): void => {
      const before = this.#samples.get(counters) ?? [];
      next.set(counters, [...before, sampleOf(counters, meter, at)].slice(-keptSamples));
    };
    for (const { counters, meter, users } of this.#exports.list()) {
      add(counters, meter);
      for (const user of users) add(user.counters);
    }
    // Clients that have left are forgotten.
    this.#samples = next;
  }

  /**
   * The rates of an export or a client: zero until its counters have been read once.
   * @param meter the export's meter
   * @param at the present time, in ms of performance.now()
   */
  of(counters: Counters, meter?: MeterFilter, at = performance.now()): Rates {
    const now = sampleOf(counters, meter, at);
    const then = this.#samples.get(counters)?.[0] ?? now;
    const seconds = Math.max(0.001, (now.at - then.at) / 1000);
    const rate = (name: keyof Counters): number => Math.round((now[name] - then[name]) / seconds);
    const latency = latencyOf(now.buckets.map((count, bucket) => count - (then.buckets[bucket] ?? 0)));
    return {
      requests: rate('requests'),
      bytesRead: rate('bytesRead'),
      bytesWritten: rate('bytesWritten'),
      ...(latency && { latency }),
    };
  }
}

function sampleOf({ requests, bytesRead, bytesWritten }: Counters, meter: MeterFilter | undefined, at: number): Sample {
  const kinds = meter ? Object.values(meter.counts) : [];
  const buckets = kinds.length === 0 ? [] : kinds[0]!.buckets.map((_, bucket) => sumOf(kinds, bucket));
  return { at, requests, bytesRead, bytesWritten, buckets };
}

function sumOf(kinds: readonly { readonly buckets: readonly number[] }[], bucket: number): number {
  return kinds.reduce((sum, { buckets }) => sum + buckets[bucket]!, 0);
}

/** @param counts the number of requests in each bucket */
function latencyOf(counts: readonly number[]): Rates['latency'] {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return undefined;
  const at = (part: number): number => {
    let sum = 0;
    const bucket = counts.findIndex((count) => (sum += count) >= part * all);
    return latencyBounds[Math.min(bucket, latencyBounds.length - 1)]!;
  };
  return { p50: at(0.5), p99: at(0.99) };
}
