/**
 * The commands of a controller that are in flight.
 *
 * A reset gives all of them up together, and is complete only when each of them has ended: none may
 * have a later effect on the medium, or on memory that the driver reuses.
 */

/** One command in flight. */
export interface InFlightCommand {
  readonly abort: AbortController;
  /** Resolves when the command has ended, whatever its outcome. */
  readonly done: Promise<void>;
}

/** The commands in flight, each under a key that is unique while the command is in flight. */
export class InFlight<T extends InFlightCommand = InFlightCommand> {
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

  /**
   * Gives up the commands whose key `which` accepts (default: all). They end by themselves later.
   * @returns the commands that were given up
   */
  giveUp(which: (key: number) => boolean = () => true): readonly T[] {
    const given = [...this.#commands].filter(([key]) => which(key)).map(([, command]) => command);
    for (const { abort } of given) abort.abort();
    return given;
  }

  /** Resolves when no command is in flight. Waits also for commands that begin meanwhile. */
  async drained(): Promise<void> {
    while (this.size > 0) await Promise.all([...this.#commands.values()].map(({ done }) => done));
  }
}
