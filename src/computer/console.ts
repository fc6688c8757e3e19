/**
 * A guest's serial console for scripts: send text, wait for text, run a command in a shell.
 */

import { JoinedAbort } from '../base/abort.js';
import { Deadline } from '../base/deadline.js';
import { nextIteration } from '../base/event-loop.js';
import { GuestShell, type ShellOptions } from './guest-shell.js';

/** Thrown if the expected output did not arrive in time, or cannot arrive any more. */
export class ConsoleTimeout extends Error {
  /** The name of the class. */
  override readonly name = 'ConsoleTimeout';
}

/** Characters of output that are kept to be searched. */
const keep = 1 << 20;
/**
 * Largest output of {@link SerialConsole.run}. The command goes on beyond it, but the rest is
 * dropped.
 */
const maxOutput = 64 << 20;

interface Waiter {
  readonly pattern: RegExp;
  /** Characters at the end of the output that are searched. */
  readonly last: number;
  readonly resolve: (match: RegExpExecArray) => void;
  readonly reject: (error: Error) => void;
}

/** A guest's serial console for scripts: text to and from it, and commands in its shell. */
export class SerialConsole {
  #text = '';
  readonly #decoder = new TextDecoder();
  readonly #send: (bytes: Uint8Array) => Promise<void>;
  readonly #shell: GuestShell;
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();
  /** Bytes that have not been passed to the listeners yet. */
  #burst: number[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #gone = new AbortController();
  #lookScheduled = false;

  /** @param send Sends bytes to the guest; resolves when the guest has taken them. */
  constructor(send: (bytes: Uint8Array) => Promise<void>) {
    this.#send = send;
    this.#shell = new GuestShell({
      send: (text) => this.send(text),
      listen: (receive) => {
        this.#listeners.add(receive);
        return () => this.#listeners.delete(receive);
      },
    });
  }

  /** Takes a byte that the guest has sent. */
  receive(byte: number): void {
    this.#text += this.#decoder.decode(Uint8Array.of(byte), { stream: true });
    if (this.#text.length > 2 * keep) this.#text = this.#text.slice(-keep);
    if (this.#listeners.size > 0) this.#burst.push(byte);
    // Bytes arrive in bursts. Searching after each byte would take time quadratic in the output.
    if ((this.#waiters.size === 0 && this.#listeners.size === 0) || this.#lookScheduled) return;
    this.#lookScheduled = true;
    nextIteration(() => {
      this.#lookScheduled = false;
      this.#tell();
      this.#look();
    });
  }

  /**
   * The computer has ended: every wait and command fails with `error`. Only the first call has an
   * effect.
   */
  close(error: Error = new ConsoleTimeout('the computer has ended')): void {
    if (this.#gone.signal.aborted) return;
    // First match the last output of the guest.
    this.#tell();
    this.#look();
    this.#gone.abort(error);
    for (const { reject } of this.#waiters) reject(error);
  }

  /** Sends text. Resolves when the guest has taken it. */
  send(text: string): Promise<void> {
    return this.#send(new TextEncoder().encode(text));
  }

  /** Reason of the last kernel panic that was printed; undefined if there was none. */
  get panic(): string | undefined {
    return [...this.#text.matchAll(/Kernel panic - not syncing: ([^\r\n]*)/g)].at(-1)?.[1];
  }

  /**
   * Waits until the output matches. A match consumes the output up to its end, so that later waits
   * do not see it.
   * @param last Characters at the end of the output that are searched: few for a pattern whose time
   * grows with the square of the output. Default: all that are kept.
   * @throws ConsoleTimeout after `timeoutMs`, with the last lines of the output
   */
  async waitFor(pattern: RegExp, timeoutMs: number, last = 2 * keep): Promise<RegExpExecArray> {
    let waiter: Waiter | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<RegExpExecArray>((resolve, reject) => {
        if (this.#gone.signal.aborted) return reject(this.#gone.signal.reason as Error);
        waiter = { pattern, last, resolve, reject };
        this.#waiters.add(waiter);
        timer = setTimeout(() => {
          const tail = this.#text.slice(-400).trim();
          reject(
            new ConsoleTimeout(`the guest did not print ${String(pattern)} within ${timeoutMs / 1000} s: ${tail}`),
          );
        }, timeoutMs);
        this.#look();
      });
    } finally {
      clearTimeout(timer);
      if (waiter) this.#waiters.delete(waiter);
    }
  }

  /**
   * Runs a command through the shell at the console, in a shell of its own (guest-shell.ts).
   * Its folder and variables end with it.
   * Concurrent calls run one after the other.
   * @returns its exit status
   * @throws GuestShellEnded, or the signal's reason
   */
  async execute(command: string, options: ShellOptions): Promise<number> {
    const joined = new JoinedAbort(this.#gone.signal, options.signal);
    try {
      const status = await this.#shell.execute(command, { ...options, signal: joined.signal });
      // The command has consumed the output, as a wait does.
      this.#text = '';
      return status;
    } finally {
      joined.end();
    }
  }

  /**
   * Like {@link execute}, for scripts that want the output as a whole.
   * @returns the output (stdout and stderr, without carriage returns) and the exit status
   * @throws ConsoleTimeout after `timeoutMs`, with the last lines of the output
   */
  async run(command: string, timeoutMs = 60_000): Promise<{ output: string; status: number }> {
    const decoder = new TextDecoder();
    let output = '';
    const deadline = new Deadline(timeoutMs);
    try {
      const status = await this.execute(command, {
        signal: deadline.signal,
        onOutput: (bytes) => {
          if (output.length < maxOutput) output += decoder.decode(bytes, { stream: true });
        },
      });
      return { output: output.replaceAll('\r', ''), status };
    } catch (error) {
      if (!deadline.passed) throw error;
      const tail = (output || this.#text).slice(-400).trim();
      throw new ConsoleTimeout(`${JSON.stringify(command)} did not end within ${timeoutMs / 1000} s: ${tail}`);
    } finally {
      deadline.end();
    }
  }

  #tell(): void {
    if (this.#burst.length === 0) return;
    const bytes = Uint8Array.from(this.#burst);
    this.#burst = [];
    for (const listener of this.#listeners) listener(bytes);
  }

  #look(): void {
    for (const waiter of this.#waiters) {
      const from = Math.max(0, this.#text.length - waiter.last);
      const match = waiter.pattern.exec(this.#text.slice(from));
      if (!match) continue;
      this.#text = this.#text.slice(from + match.index + match[0].length);
      this.#waiters.delete(waiter);
      waiter.resolve(match);
    }
  }
}
