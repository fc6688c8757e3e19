/** The recent output of a computer's console, and the watchers that get what follows. */
import { FarbusError } from './errors.js';
import { nextIteration } from './event-loop.js';

/** Bytes of recent output that are kept for a new watcher. */
const backlogSize = 16 << 10;

/** A receiver of console output. */
export interface ConsoleWatcher {
  receive(bytes: Uint8Array): void;
  /** The computer has ended; no more output follows. */
  over(): void;
}

/** A user who types at the console. */
interface ConsoleUser {
  /** The reason that another user is told. */
  readonly refusal: string;
  readonly alone: boolean;
}

export class ConsoleFeed {
  readonly #users = new Set<ConsoleUser>();
  readonly #watchers = new Set<ConsoleWatcher>();
  #backlog = new Uint8Array(0);
  #over = false;

  /** Adds output and passes it to the watchers. */
  add(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#backlog.length + bytes.length);
    all.set(this.#backlog);
    all.set(bytes, this.#backlog.length);
    this.#backlog = all.length > backlogSize ? all.slice(-backlogSize) : all;
    for (const watcher of this.#watchers) watcher.receive(bytes);
  }

  /**
   * Registers a user who types at the console. Returns a function that ends this.
   * @param refusal the reason that another user is told
   * @param alone true if no other user may type meanwhile
   * @throws FarbusError of the kind `taken`
   */
  use(refusal: string, alone: boolean): () => void {
    const other = [...this.#users].find((one) => alone || one.alone);
    if (other) throw new FarbusError(other.refusal, { kind: 'taken' });
    const user: ConsoleUser = { refusal, alone };
    this.#users.add(user);
    return () => this.#users.delete(user);
  }

  /** The computer has ended. */
  end(): void {
    this.#over = true;
    for (const watcher of this.#watchers) watcher.over();
  }

  /**
   * Sends the recent output to the watcher, then further output until the computer ends. Returns a
   * function that ends the watch.
   */
  watch(watcher: ConsoleWatcher): () => void {
    if (this.#backlog.length > 0) watcher.receive(withoutQueries(this.#backlog));
    if (this.#over) watcher.over();
    else this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

/**
 * Recent output without terminal queries (cursor position, device attributes). A watcher's terminal
 * would answer old queries again, and the guest would read the answers as input.
 */
export function withoutQueries(bytes: Uint8Array): Uint8Array {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  return Uint8Array.from(text.replace(/\x1b\[[\d;>=?]*[cn]/g, ''), (char) => char.charCodeAt(0));
}

/**
 * A receiver of single bytes of a console, which passes those of one iteration of the event loop on
 * together.
 */
export function collectBytes(receive: (bytes: Uint8Array) => void): (byte: number) => void {
  let collected: number[] = [];
  return (byte) => {
    if (collected.push(byte) > 1) return;
    nextIteration(() => {
      const bytes = Uint8Array.from(collected);
      collected = [];
      receive(bytes);
    });
  };
}
