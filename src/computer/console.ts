/** A guest's serial console as a script uses it: send text, wait for text, run a command in a shell. */

import { nextTurn } from '../base/turn.js';

/** Thrown when what was waited for did not come, or cannot come any more. */
export class ConsoleTimeout extends Error {
  override readonly name = 'ConsoleTimeout';
}

/** Bytes of output that are kept to search in. */
const keep = 1 << 20;

interface Waiter {
  readonly pattern: RegExp;
  readonly resolve: (match: RegExpExecArray) => void;
  readonly reject: (error: Error) => void;
}

export class SerialConsole {
  #text = '';
  readonly #decoder = new TextDecoder();
  readonly #send: (bytes: Uint8Array) => void;
  readonly #waiters = new Set<Waiter>();
  #commands = 0;
  #closed = false;
  #lookScheduled = false;

  /** @param send Sends bytes to the guest. */
  constructor(send: (bytes: Uint8Array) => void) {
    this.#send = send;
  }

  /** Takes a byte that the guest sent. */
  receive(byte: number): void {
    this.#text += this.#decoder.decode(Uint8Array.of(byte), { stream: true });
    if (this.#text.length > 2 * keep) this.#text = this.#text.slice(-keep);
    // Bytes come in bursts: looking at each of them would be work squared.
    if (this.#waiters.size === 0 || this.#lookScheduled) return;
    this.#lookScheduled = true;
    nextTurn(() => {
      this.#lookScheduled = false;
      this.#look();
    });
  }

  /** The computer has ended: whoever waits is told. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const { reject } of this.#waiters) reject(new ConsoleTimeout('the computer has ended'));
  }

  send(text: string): void {
    this.#send(new TextEncoder().encode(text));
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
        if (this.#closed) return reject(new ConsoleTimeout('the computer has ended'));
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
   * Runs a command in the guest's shell.
   * @returns its output (both streams, without the echo of the command) and exit status.
   */
  async run(command: string, timeoutMs = 60_000): Promise<{ output: string; status: number }> {
    const id = `${++this.#commands}-${Math.floor(Math.random() * 1e9)}`;
    // The quotes keep the echo of what is typed from looking like the marks that are printed.
    this.send(`echo far''bus-begin-${id}; { ${command}\n}; echo far''bus-end-${id}:$?\n`);
    await this.waitFor(new RegExp(`farbus-begin-${id}\\r?\\n`), timeoutMs);
    const match = await this.waitFor(new RegExp(`([^]*?)farbus-end-${id}:(\\d+)`), timeoutMs);
    const output = match[1]!.replaceAll('\r', '').replace(/^> /gm, '');
    return { output, status: Number(match[2]) };
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
