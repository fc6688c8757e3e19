/**
 * Trace filter: reports every request that has settled to a sink, with its duration and outcome. It
 * must see every request, so it passes on no synchronous transfers and no file ranges.
 */
import type { BlockDevice } from '../device.js';
import { blockErrorOf, type BlockError } from '../errors.js';
import { Filter, type BlockOperation, type BlockRequest } from './filter.js';

/** One settled request. */
export interface TraceEntry {
  /** The kind of the request. */
  readonly op: BlockOperation;
  /** Bytes; 0 for a flush. */
  readonly offset: number;
  /** Bytes; 0 for a flush. */
  readonly length: number;
  /** When it began, in ms of `performance.now()`. */
  readonly start: number;
  /** Its duration, in ms. */
  readonly ms: number;
  /** The command's trace id (base/steps.ts), if it has one. */
  readonly traceId: number | undefined;
  /** True if it is durable when answered. */
  readonly fua: boolean;
  /** The error, if it failed. */
  readonly error: BlockError | undefined;
}

/**
 * Receives entries. Called before the request's promise settles: it must be quick and must not
 * throw.
 */
export type TraceSink = (entry: TraceEntry) => void;

/** Reports every request that has settled to a sink, with its duration and outcome. */
export class TraceFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #sink: TraceSink;

  constructor(next: BlockDevice, sink: TraceSink) {
    super(next);
    this.#sink = sink;
  }

  protected override async around<T>(request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    const start = performance.now();
    let error: BlockError | undefined;
    try {
      return await pass();
    } catch (reason) {
      error = blockErrorOf(reason);
      throw error;
    } finally {
      const { op, offset, length, options } = request;
      const ms = performance.now() - start;
      this.#sink({ op, offset, length, start, ms, traceId: options.traceId, fua: options.fua === true, error });
    }
  }
}
