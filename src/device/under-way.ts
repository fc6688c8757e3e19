/**
 * Commands of a controller that are under way: given up together at a reset, and waited for, as a reset is over only when
 * none of them can have a later effect on the medium or on memory that the driver uses for something else.
 */

/** One of them. */
export interface UnderWayCommand {
  readonly abort: AbortController;
  /** Resolves when it has ended, however. */
  readonly done: Promise<void>;
}

/** By a number that is the command's alone while it is under way. */
export class UnderWay<T extends UnderWayCommand = UnderWayCommand> {
  readonly #commands = new Map<number, T>();

  get size(): number {
    return this.#commands.size;
  }

  has(key: number): boolean {
    return this.#commands.has(key);
  }

  get(key: number): T | undefined {
    return this.#commands.get(key);
  }

  add(key: number, command: T): void {
    this.#commands.set(key, command);
  }

  ended(key: number): void {
    this.#commands.delete(key);
  }

  some(test: (command: T) => boolean): boolean {
    return [...this.#commands.values()].some(test);
  }

  /** Gives up those that `which` names; they end by themselves. Default: all. */
  giveUp(which: (key: number) => boolean = () => true): readonly T[] {
    const given = [...this.#commands].filter(([key]) => which(key)).map(([, command]) => command);
    for (const { abort } of given) abort.abort();
    return given;
  }

  /** Resolves when none is under way, also of those that begin meanwhile. */
  async drained(): Promise<void> {
    while (this.size > 0) await Promise.all([...this.#commands.values()].map(({ done }) => done));
  }
}
