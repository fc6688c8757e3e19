/** A guest's serial console as a script uses it: send text, wait for text, run a command in a shell. */

import { JoinedAbort } from '../base/abort.js';
import { Deadline } from '../base/deadline.js';
import { nextTurn } from '../base/turn.js';
import { GuestShell, type ShellOptions } from './guest-shell.js';

/** Thrown when what was waited for did not come, or cannot come any more. */
export class ConsoleTimeout extends Error {
  override readonly name = 'ConsoleTimeout';
}

/** Characters of output that are kept to search in. */
const keep = 1 << 20;
/** Bytes of output that {@link SerialConsole.run} returns at most; the command goes on without the rest. */
const maxOutput = 64 << 20;

interface Waiter {
  readonly pattern: RegExp;
  readonly resolve: (match: RegExpExecArray) => void;
  readonly reject: (error: Error) => void;
}

export class SerialConsole {
  #text = '';
  readonly #decoder = new TextDecoder();
  readonly #send: (bytes: Uint8Array) => Promise<void>;
  readonly #shell: GuestShell;
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();
  /** What listeners have not been given. */
  #burst: number[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #gone = new AbortController();
  #lookScheduled = false;

  /** @param send Sends bytes to the guest; resolves when it has taken them. */
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

  /** Takes a byte that the guest sent. */
  receive(byte: number): void {
    this.#text += this.#decoder.decode(Uint8Array.of(byte), { stream: true });
    if (this.#text.length > 2 * keep) this.#text = this.#text.slice(-keep);
    if (this.#listeners.size > 0) this.#burst.push(byte);
    // Bytes come in bursts: looking at each of them would be work squared.
    if ((this.#waiters.size === 0 && this.#listeners.size === 0) || this.#lookScheduled) return;
    this.#lookScheduled = true;
    nextTurn(() => {
      this.#lookScheduled = false;
      this.#tell();
      this.#look();
    });
  }

  /** The computer has ended: every wait and command ends with `error`. Only the first call has an effect. */
  close(error: Error = new ConsoleTimeout('the computer has ended')): void {
    if (this.#gone.signal.aborted) return;
    // The last words count.
    this.#tell();
    this.#look();
    this.#gone.abort(error);
    for (const { reject } of this.#waiters) reject(error);
  }

  /** Resolves when the guest has taken the text. */
  send(text: string): Promise<void> {
    return this.#send(new TextEncoder().encode(text));
  }

  /** The reason of the kernel panic that was printed last; undefined where none was. */
  get panic(): string | undefined {
    return [...this.#text.matchAll(/Kernel panic - not syncing: ([^\r\n]*)/g)].at(-1)?.[1];
  }

  /**
   * Waits until the output that no earlier wait has used up matches.
   * @throws ConsoleTimeout after `timeoutMs`, with the last lines of what there was.
   */
  async waitFor(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    let waiter: Waiter | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<RegExpExecArray>((resolve, reject) => {
        if (this.#gone.signal.aborted) return reject(this.#gone.signal.reason as Error);
        waiter = { pattern, resolve, reject };
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
   * Runs a command by the shell that is at the console, in a shell of its own (guest-shell.ts). Several run one after the
   * other.
   * @returns its exit status. @throws GuestShellEnded; the signal's reason.
   */
  async execute(command: string, options: ShellOptions): Promise<number> {
    const joined = new JoinedAbort(this.#gone.signal, options.signal);
    try {
      const status = await this.#shell.execute(command, { ...options, signal: joined.signal });
      // It is used up, as by a wait.
      this.#text = '';
      return status;
    } finally {
      joined.end();
    }
  }

  /**
   * The same, for scripts that want the output as a whole.
   * @returns its output (both streams, without carriage returns) and exit status.
   * @throws ConsoleTimeout after `timeoutMs`, with the last lines of what there was.
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
      const match = waiter.pattern.exec(this.#text);
      if (!match) continue;
      this.#text = this.#text.slice(match.index + match[0].length);
      this.#waiters.delete(waiter);
      waiter.resolve(match);
    }
  }
}
