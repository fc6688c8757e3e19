/**
 * Runs a command in the shell at the console of a running computer, through its control socket: for
 * `farbus exec`. The command has the console alone, or is refused. The console's shell must wait at
 * a prompt: anything else that reads the console would get the typed lines.
 *
 * Not here: the lines that are typed, and the markers in the output (computer/guest-shell.ts).
 */
import { onAbort } from '../../base/abort.js';
import { FarbusError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { ConsoleTimeout, SerialConsole } from '../../computer/console.js';
import { GuestShellEnded } from '../../computer/guest-shell.js';
import { openControl } from '../control/client.js';
import type { Named } from '../control/find.js';

export interface ConsoleCommand {
  /** The name of the computer, as the user gave it. */
  readonly name: string;
  readonly command: string;
  /** The command's standard input. Default: empty. */
  readonly input?: AsyncIterable<Uint8Array> | undefined;
  readonly onOutput: (bytes: Uint8Array) => void;
  /**
   * Ends the command by Ctrl-C. The promise then rejects with the signal's reason, or with a
   * FarbusError if the command goes on.
   */
  readonly signal: AbortSignal;
}

/**
 * A shell's prompt at the end of the output, such as `~ # `. Escape sequences and messages of the
 * kernel may follow it.
 */
const prompt = /[#$] (?:\x1b\[[\d;?]*[A-Za-z]|\[ *\d+\.\d{6}\] [^\n]*\n)*$/;
/** Time in which the prompt must be seen, in ms: the last command's may still be on its way. */
const promptMs = 3000;
/** Time after which a console that has printed nothing is asked for a prompt, in ms. */
const silentMs = 500;
/** Time in which the shell must answer the first line, in ms. */
const answerMs = 30_000;
/** Time that a command has to end after Ctrl-C, in ms. */
const interruptMs = 5000;
/** Characters of output in which the prompt is searched, and which are kept for a message. */
const keptTail = 2000;

/**
 * Runs the command.
 * @returns its exit status
 * @throws FarbusError if the console is in use, no shell waits there, or the computer ends
 */
export async function runOnConsole({ process, computer }: Named, options: ConsoleCommand): Promise<number> {
  const { name, signal } = options;
  const { socket, rest } = await openControl(process.path, { command: 'console', computer, alone: true }, { signal });
  const console = new SerialConsole(async (bytes) => void socket.write(bytes));
  let tail = '';
  const receive = (bytes: Uint8Array): void => {
    tail = (tail + Buffer.from(bytes).toString('latin1')).slice(-keptTail);
    for (const byte of bytes) console.receive(byte);
  };
  receive(rest);
  socket.on('data', receive);
  socket.once('close', () => console.close(new FarbusError(`${name} ended before the command had`)));
  socket.resume();
  // A console that was restored from a snapshot has not printed its prompt yet.
  const ask = setTimeout(() => {
    if (tail === '') void console.send('\n');
  }, silentMs);
  try {
    await untilPrompt(console, signal).catch((error: unknown) => {
      throw error instanceof ConsoleTimeout ? noShell(name, tail) : error;
    });
    const status = await execute(console, options);
    // The next command needs the prompt.
    await console.waitFor(prompt, promptMs, keptTail).catch(() => undefined);
    return status;
  } finally {
    clearTimeout(ask);
    socket.destroy();
  }
}

async function untilPrompt(console: SerialConsole, signal: AbortSignal): Promise<void> {
  const aborted = new Promise<never>((_, reject) => onAbort(signal, () => reject(signal.reason as Error)));
  await Promise.race([console.waitFor(prompt, promptMs, keptTail), aborted]);
}

function noAnswer(name: string): string {
  return `the shell on the console of ${name} does not answer as sh does: start sh there by farbus console ${name}`;
}

function noShell(name: string, tail: string): FarbusError {
  const last = tail.trimEnd().split('\n').at(-1)!.trim();
  const seen = last === '' ? '' : `; its last line is ${JSON.stringify(visible(last).slice(-60))}`;
  return new FarbusError(`no shell waits at a prompt on the console of ${name}${seen}: see farbus console ${name}`);
}

async function execute(console: SerialConsole, options: ConsoleCommand): Promise<number> {
  const { name, command, input, onOutput, signal } = options;
  const giveUp = new AbortController();
  const timer = (ms: number, why: string): NodeJS.Timeout =>
    setTimeout(() => giveUp.abort(new FarbusError(why)), ms).unref();
  // After Ctrl-C a shell may print its prompt before the end of the command is known.
  let late = '';
  let limit = timer(answerMs, noAnswer(name));
  const unwatch = onAbort(signal, () => {
    void console.send('\x03');
    clearTimeout(limit);
    limit = timer(interruptMs, `the command did not end by Ctrl-C and goes on: see farbus console ${name}`);
  });
  try {
    const status = await console.execute(command, {
      input,
      onOutput: (bytes) => {
        if (signal.aborted) late += Buffer.from(bytes).toString('latin1');
        else onOutput(bytes);
      },
      signal: giveUp.signal,
      restores: true,
      onReady: () => {
        if (!signal.aborted) clearTimeout(limit);
      },
    });
    signal.throwIfAborted();
    return status;
  } catch (error) {
    if (error instanceof GuestShellEnded) {
      signal.throwIfAborted();
      throw new FarbusError(error.message);
    }
    throw error;
  } finally {
    if (late !== '') onOutput(Buffer.from(withoutPrompt(late), 'latin1'));
    clearTimeout(limit);
    unwatch();
  }
}

/** Output without the prompt of a shell at its end. Output can be one line of some megabytes. */
export function withoutPrompt(output: string): string {
  const end = output.lastIndexOf('\n');
  const last = output.slice(end + 1);
  return last.endsWith('# ') || last.endsWith('$ ') ? output.slice(0, Math.max(0, end)) : output;
}
