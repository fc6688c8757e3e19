/**
 * Lease: lets several sides share a device, of which only one may write at a time. Example: the
 * physical device 914 of [SYS], which is a client's remote disk and also given to OS 2.
 *
 * Each side is a BlockDevice. All sides read; writes of a side that does not hold the lease are
 * refused.
 *
 * Not here: protection of a mounted file system. A reader sees what is on the device now, without
 * what the writer still has in its memory.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import { sleep } from '../../base/event-loop.js';
import type { BlockDevice } from '../device.js';
import type { DirectAccess, FileRanges } from '../direct.js';
import { BlockError } from '../errors.js';
import { LossWatch } from '../losses.js';
import { Filter, type BlockRequest } from './filter.js';

/** Time limit of a move, in ms. */
const moveLimitMs = 30_000;

/** Options of {@link LeaseArbiter.move}. */
export interface MoveOptions {
  /** Gives up the move: the lease stays where it is. */
  readonly signal?: AbortSignal;
  /** Receives what the move waits for, as a function that gives the present text. */
  readonly waitsFor?: (what: () => string) => void;
}

/** Lets one of several sides write a device at a time; the others read it. */
export class LeaseArbiter {
  readonly #device: BlockDevice;
  readonly #sides: Set<string>;
  readonly #inFlight = new Map<string, number>();
  #holder: string;
  #moving = false;
  #settled: (() => void) | undefined;

  /**
   * @param sides names of the first sides; '' is not a name
   * @param holder the side that holds the lease at first, '' for none; default: the first side
   */
  constructor(device: BlockDevice, sides: readonly string[] = [], holder = sides[0] ?? '') {
    this.#device = device;
    this.#sides = new Set(sides);
    this.#holder = this.#check(holder);
  }

  /**
   * The side that holds the lease; '' if none does. During a move it is still the old one, whose
   * writes are refused.
   */
  get holder(): string {
    return this.#holder;
  }

  /** While it is true, no side gets the lease and no side may write. */
  get moving(): boolean {
    return this.#moving;
  }

  /** The names of all sides. */
  get sides(): readonly string[] {
    return [...this.#sides];
  }

  /**
   * Adds a side. It gets the lease if it `wants` to write and no side holds the lease.
   * @returns true if it holds the lease
   */
  join(name: string, wants = true): boolean {
    this.#sides.add(name);
    if (wants && this.#holder === '' && !this.#moving) this.#holder = name;
    return this.#holder === name;
  }

  /** Removes a side that has no request in flight. If it held the lease, the lease is free. */
  leave(name: string): void {
    this.#sides.delete(name);
    this.#inFlight.delete(name);
    if (this.#holder === name) this.#holder = '';
  }

  /** The device of side `name`. Closing it does not close the shared device. */
  side(name: string): BlockDevice {
    this.#check(name);
    return new LeasedSide(this.#device, {
      admit: (request, pass) => this.#admit(name, request, pass),
      checkWrite: () => this.#checkWrite(name),
    });
  }

  /**
   * Moves the lease to another side, or frees it (`to` is ''), when the holder's writes in flight
   * have settled and are durable. Rejects with a FarbusError, and the holder keeps the lease, if
   * the flush fails, if `signal` aborts, or after 30 s.
   */
  async move(to: string, { signal, waitsFor }: MoveOptions = {}): Promise<void> {
    this.#check(to);
    if (this.#moving) throw new FarbusError('the lease is being moved: try again when that is done');
    if (to === this.#holder) return;
    this.#moving = true;
    const late = new AbortController();
    const limit = sleep(moveLimitMs, late.signal).then(
      () => 'it takes too long; try again',
      () => '',
    );
    const withdrawn = new Promise<string>((resolve) => {
      const give = (): void => resolve('the request was withdrawn');
      if (signal?.aborted) give();
      signal?.addEventListener('abort', give, { once: true, signal: late.signal });
    });
    const bounded = async (work: Promise<unknown>, what: string): Promise<void> => {
      const why = await Promise.race([work.then(() => undefined), limit, withdrawn]);
      if (why !== undefined) throw new FarbusError(`the lease stays with ${this.#holder}: ${what}, and ${why}`);
    };
    try {
      const idle = new Promise<void>((resolve) => {
        if ((this.#inFlight.get(this.#holder) ?? 0) === 0) resolve();
        else this.#settled = resolve;
      });
      waitsFor?.(() => `the writes of ${this.#holder} in flight (${this.#inFlight.get(this.#holder) ?? 0})`);
      await bounded(idle, 'its writes are not over yet');
      waitsFor?.(() => 'the device, which makes them durable');
      await bounded(this.#device.flush(), 'the device has not made them durable yet');
      // Check again: if the side has left during the move, no side could write.
      this.#holder = this.#check(to);
    } catch (error) {
      if (error instanceof FarbusError) throw error;
      throw new FarbusError(`the lease stays with ${this.#holder}: the device cannot flush: ${messageOf(error)}`);
    } finally {
      late.abort();
      this.#settled = undefined;
      this.#moving = false;
    }
  }

  async #admit<T>(side: string, { op }: BlockRequest, pass: () => Promise<T>): Promise<T> {
    if (op === 'read' || op === 'extents' || op === 'flush') return pass();
    this.#checkWrite(side);
    this.#count(side, 1);
    try {
      return await pass();
    } finally {
      if (this.#count(side, -1) === 0) this.#settled?.();
    }
  }

  /** @throws BlockError if the side may not write now */
  #checkWrite(side: string): void {
    if (side !== this.#holder) {
      throw new BlockError(
        'read-only',
        this.#holder ? `the lease of this device is with ${this.#holder}` : 'no side has the lease of this device',
      );
    }
    if (this.#moving) throw new BlockError('read-only', 'the lease of this device is being moved');
  }

  #count(side: string, by: number): number {
    const count = (this.#inFlight.get(side) ?? 0) + by;
    this.#inFlight.set(side, count);
    return count;
  }

  #check(side: string): string {
    if (side === '' || this.#sides.has(side)) return side;
    throw new FarbusError(`${JSON.stringify(side)} does not have this device: give one of ${this.sides.join(', ')}`);
  }
}

/** The arbiter, as one side sees it. */
interface Admission {
  admit<T>(request: BlockRequest, pass: () => Promise<T>): Promise<T>;
  /** @throws BlockError if the side may not write now */
  checkWrite(): void;
}

class LeasedSide extends Filter {
  protected override readonly keepsNothing = true;
  readonly #watch: LossWatch;
  readonly #arbiter: Admission;

  constructor(device: BlockDevice, arbiter: Admission) {
    super(device);
    this.#watch = new LossWatch(device.losses);
    this.#arbiter = arbiter;
  }

  protected override get follows(): boolean {
    return true;
  }

  /** A synchronous write is over when it returns, so no move has to wait for it. */
  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    return (
      direct && {
        read: (offset, into) => direct.read(offset, into),
        write: (offset, from) => {
          this.#arbiter.checkWrite();
          return direct.write(offset, from);
        },
      }
    );
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    return this.next.files;
  }

  protected override around<T>(request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    const run = (): Promise<T> => this.#arbiter.admit(request, pass);
    if (request.op !== 'flush') return run();
    // Another side's flush, or that of a move, may have met the loss of this side's writes.
    let result: T;
    return this.#watch.flush(async () => void (result = await run())).then(() => result);
  }

  protected override doClose(): Promise<void> {
    return Promise.resolve();
  }
}
