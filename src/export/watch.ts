/**
 * Watching the requests of an export's connections, for pictures and tables of them. As long as
 * there is no watcher, requests pass without a measurement.
 */
import type { DirectAccess, FileRange, FileRanges } from '../block/direct.js';
import type { BlockDevice } from '../block/device.js';
import { Filter, type BlockOperation, type BlockRequest } from '../block/filters/filter.js';

/** A request that a device has answered. */
export interface WatchedCommand {
  readonly export: string;
  /** The number of the connection. */
  readonly client: string;
  readonly operation: BlockOperation;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** When it began, in ms of performance.now(). */
  readonly start: number;
  /** The time that the device needed, in ms. */
  readonly ms: number;
  /** Undefined if it succeeded. */
  readonly error: unknown;
}

/** Receives each request. It is called while clients wait: it must be quick and must not throw. */
export type Watcher = (command: WatchedCommand) => void;

/** The watchers of a server's exports. */
export class CommandWatch {
  readonly #watchers = new Set<Watcher>();

  get on(): boolean {
    return this.#watchers.size > 0;
  }

  /** Adds a watcher. Call the returned function to remove it. */
  add(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  report(command: WatchedCommand): void {
    for (const watcher of this.#watchers) watcher(command);
  }
}

/** Reports the requests of one connection to a {@link CommandWatch}. */
export class WatchFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #watch: CommandWatch;
  readonly #of: Pick<WatchedCommand, 'export' | 'client'>;

  constructor(next: BlockDevice, watch: CommandWatch, of: Pick<WatchedCommand, 'export' | 'client'>) {
    super(next);
    this.#watch = watch;
    this.#of = of;
  }

  protected override get follows(): boolean {
    return true;
  }

  /** A synchronous request that returns false is not reported: the caller repeats it. */
  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    const watched = (operation: BlockOperation, offset: number, length: number, act: () => boolean): boolean => {
      if (!this.#watch.on) return act();
      const start = performance.now();
      const done = act();
      if (done) this.#report({ operation, offset, length, start });
      return done;
    };
    return (
      direct && {
        read: (offset, into) => watched('read', offset, into.length, () => direct.read(offset, into)),
        write: (offset, from) => watched('write', offset, from.length, () => direct.write(offset, from)),
      }
    );
  }

  /** A file range is reported as one read, which ends when the range is known. */
  protected override get uncheckedFiles(): FileRanges | undefined {
    const { files } = this.next;
    return (
      files && {
        resident: (offset, length): FileRange | undefined => {
          if (!this.#watch.on) return files.resident(offset, length);
          const start = performance.now();
          const range = files.resident(offset, length);
          if (range) this.#report({ operation: 'read', offset, length, start });
          return range;
        },
      }
    );
  }

  protected override async around<T>(request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    if (!this.#watch.on) return pass();
    const start = performance.now();
    const { op: operation, offset, length } = request;
    try {
      const result = await pass();
      this.#report({ operation, offset, length, start });
      return result;
    } catch (error) {
      this.#report({ operation, offset, length, start }, error);
      throw error;
    }
  }

  #report(command: Pick<WatchedCommand, 'operation' | 'offset' | 'length' | 'start'>, error?: unknown): void {
    this.#watch.report({ ...this.#of, ...command, ms: performance.now() - command.start, error });
  }
}
