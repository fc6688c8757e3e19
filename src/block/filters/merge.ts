/**
 * Merge filter: merges adjacent requests that arrive in one iteration of the event loop, or while
 * the next device is busy. For devices on which a request costs more than its bytes: remote
 * devices, and devices that serve one request at a time.
 *
 * Writes are merged if they are adjacent and agree in FUA; reads also across small gaps. Requests
 * that overlap are never merged. Each caller gets its own result: if a merged request fails, its
 * parts are repeated one by one. Requests must wait for others to merge with, so it passes on no
 * synchronous transfers and no file ranges.
 */
import { onAbort } from '../../base/abort.js';
import { buffersOf, type Buffers } from '../../base/buffers.js';
import { nextIteration } from '../../base/event-loop.js';
import type { BlockDevice, RequestOptions, WriteOptions } from '../device.js';
import { BlockError, blockErrorOf, isLocal } from '../errors.js';
import { Filter } from './filter.js';
import { JoinedBuffers } from '../../base/joined-buffers.js';

/** Options of a {@link MergeFilter}. */
export interface MergeOptions {
  /** Longest merged request in bytes; at most the next device's `maxTransfer`. Default 4 MiB. */
  readonly maxLength?: number | undefined;
  /**
   * Largest gap between two reads that is read too, so that they can be merged, in bytes. Default
   * 4096.
   */
  readonly maxGap?: number | undefined;
  /**
   * Most requests in flight to the next device, reads and writes together. Others wait, and are
   * merged meanwhile. Default: no limit.
   */
  readonly depth?: number | undefined;
}

/** A request that waits to be merged and sent. */
interface Waiting {
  readonly write: boolean;
  readonly offset: number;
  readonly buffers: Buffers;
  readonly options: WriteOptions;
  readonly settle: (error?: BlockError) => void;
  readonly unwatch: () => void;
}

/** Merges adjacent requests, for devices on which a request costs more than its bytes. */
export class MergeFilter extends Filter {
  readonly #maxLength: number;
  readonly #maxGap: number;
  readonly #depth: number;
  #waiting: Waiting[] = [];
  #scheduled = false;
  #inFlight = 0;

  constructor(next: BlockDevice, options: MergeOptions = {}) {
    super(next);
    const { maxLength = 4 << 20, maxGap = 4096, depth = Infinity } = options;
    this.#maxLength = Math.min(maxLength, next.info.maxTransfer);
    this.#maxGap = maxGap;
    this.#depth = Math.max(1, depth);
  }

  protected override doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    return this.#enqueue(false, offset, into, options);
  }

  protected override doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.#enqueue(true, offset, from, options);
  }

  #enqueue(write: boolean, offset: number, buffers: Buffers, options: WriteOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        const at = this.#waiting.indexOf(request);
        // A request that has begun is settled with its group.
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        request.settle(new BlockError('aborted', 'given up before it began'));
      };
      const request: Waiting = {
        write,
        offset,
        buffers,
        options,
        settle: (error) => (error ? reject(error) : resolve()),
        unwatch: onAbort(options.signal, giveUp),
      };
      this.#waiting.push(request);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#depth || this.#waiting.length === 0) return;
    this.#scheduled = true;
    nextIteration(() => {
      this.#scheduled = false;
      this.#dispatch();
    });
  }

  /** Begins as many merged requests as `depth` allows, those with the oldest requests first. */
  #dispatch(): void {
    if (this.#waiting.length === 0) return;
    for (const group of this.#groups(this.#waiting)) {
      if (this.#inFlight >= this.#depth) return;
      const taken = new Set(group);
      this.#waiting = this.#waiting.filter((request) => !taken.has(request));
      this.#inFlight++;
      for (const { unwatch } of group) unwatch();
      void this.#run(group).finally(() => {
        this.#inFlight--;
        this.#schedule();
      });
    }
  }

  /**
   * Groups of requests to merge: each group in order of offset, the groups in order of their oldest
   * request.
   */
  #groups(requests: readonly Waiting[]): Waiting[][] {
    const age = new Map(requests.map((request, index) => [request, index]));
    const kind = ({ write, options }: Waiting): number => (write ? (options.fua ? 2 : 1) : 0);
    const sorted = [...requests].sort((a, b) => kind(a) - kind(b) || a.offset - b.offset);
    const groups: Waiting[][] = [];
    for (const request of sorted) {
      const group = groups.at(-1);
      const last = group?.at(-1);
      if (group && last && kind(last) === kind(request) && this.#fits(group[0]!, last, request)) group.push(request);
      else groups.push([request]);
    }
    const oldest = (group: readonly Waiting[]): number => Math.min(...group.map((request) => age.get(request)!));
    return groups
      .map((group) => ({ group, age: oldest(group) }))
      .sort((a, b) => a.age - b.age)
      .map(({ group }) => group);
  }

  #fits(first: Waiting, last: Waiting, next: Waiting): boolean {
    const gap = next.offset - (last.offset + last.buffers.length);
    const length = next.offset + next.buffers.length - first.offset;
    return gap >= 0 && gap <= (next.write ? 0 : this.#maxGap) && length <= this.#maxLength;
  }

  /** Runs one group as one request and settles its callers. Never rejects. */
  async #run(group: readonly Waiting[]): Promise<void> {
    const [first] = group;
    if (group.length === 1) return this.#alone(first!);
    try {
      const { done, signal } = groupSignal(group);
      const { fua, traceId } = first!.options;
      const options: WriteOptions = {
        ...(signal && { signal }),
        ...(fua !== undefined && { fua }),
        ...(traceId !== undefined && { traceId }),
      };
      try {
        await this.#pass(first!.write, first!.offset, joined(group), options);
      } finally {
        done();
      }
    } catch (error) {
      const failure = blockErrorOf(error);
      // Kind `aborted` also comes here: the merged request aborts only when all of its callers
      // have.
      if (!isLocal(failure)) return group.forEach(({ settle }) => settle(failure));
      await Promise.all(group.map((request) => this.#alone(request)));
      return;
    }
    for (const { settle } of group) settle();
  }

  async #alone({ write, offset, buffers, options, settle }: Waiting): Promise<void> {
    try {
      await this.#pass(write, offset, buffers, options);
      settle();
    } catch (error) {
      settle(blockErrorOf(error));
    }
  }

  #pass(write: boolean, offset: number, buffers: Buffers, options: WriteOptions): Promise<void> {
    return write ? super.doWrite(offset, buffers, options) : super.doRead(offset, buffers, options);
  }
}

/** The memory of a group, with scratch memory for the gaps between its reads. */
function joined(group: readonly Waiting[]): Buffers {
  const parts: Buffers[] = [];
  let at = group[0]!.offset;
  for (const { offset, buffers } of group) {
    if (offset > at) parts.push(buffersOf(new Uint8Array(offset - at)));
    parts.push(buffers);
    at = offset + buffers.length;
  }
  return new JoinedBuffers(parts);
}

/**
 * A signal that aborts when every request of the group is aborted; undefined if one of them has no
 * signal.
 */
function groupSignal(group: readonly Waiting[]): { signal: AbortSignal | undefined; done: () => void } {
  const signals = [...new Set(group.map(({ options }) => options.signal))];
  if (signals.includes(undefined)) return { signal: undefined, done: () => undefined };
  const all = new AbortController();
  const look = (): void => {
    if (signals.every((signal) => signal!.aborted)) all.abort();
  };
  const watches = signals.map((signal) => onAbort(signal, look));
  look();
  const done = (): void => {
    for (const stop of watches) stop();
  };
  return { signal: all.signal, done };
}
