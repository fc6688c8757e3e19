/**
 * `farbus run --exec`: runs one command in the guest's shell, with this program's input and output,
 * and returns its exit status.
 */
import { existsSync } from 'node:fs';
import { JoinedAbort, untilAbort } from '../../base/abort.js';
import { Deadline } from '../../base/deadline.js';
import { FarbusError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { ClientComputer } from '../../computer/client.js';
import { GuestEnded } from '../../computer/guest-end.js';
import { GuestShellEnded } from '../../computer/guest-shell.js';
import { bootLimit, startGuest, type Guest } from '../../app/computer/start.js';
import { exitStatus } from '../exit-status.js';
import { guestOutput } from '../ui/guest-output.js';
import type { CliIo } from '../ui/io.js';
import { whileShown } from '../ui/progress.js';

/** Maximum output for `--json`, in bytes. */
const maxJson = 64 << 20;

export interface ExecOptions {
  readonly io: CliIo;
  readonly computer: ClientComputer;
  readonly guest: Guest;
  readonly memory: number;
  readonly snapshot: string | undefined;
  /** Continue from the snapshot even if a disk was written since. */
  readonly evenIfWritten: boolean;
  /** The engine, in words that complete "the guest boots". */
  readonly where: string;
  readonly command: string;
  readonly json: boolean;
  /** Time limit for boot and command together; undefined for no limit on the command. */
  readonly timeoutSeconds: number | undefined;
  /** Aborts it; the reason is thrown. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Do not say that the guest boots. */
  readonly quiet: boolean;
}

/**
 * Boots the guest, or restores its snapshot, and runs the command.
 * @returns The command's exit status.
 * @throws FarbusError
 */
export async function execute(options: ExecOptions): Promise<number> {
  const { timeoutSeconds, signal } = options;
  if (timeoutSeconds === undefined) return executeUntil(options, signal, bootLimit);
  const limitMs = timeoutSeconds * 1000;
  const deadline = new Deadline(limitMs, signal);
  try {
    return await executeUntil(options, deadline.signal, limitMs);
  } catch (error) {
    if (!deadline.passed) throw error;
    throw new FarbusError(`the command did not end within ${timeoutSeconds} s (--timeout)`, {
      exitCode: exitStatus.late,
    });
  } finally {
    deadline.end();
  }
}

function bootText({ snapshot, where }: ExecOptions): string {
  if (snapshot === undefined) return `the guest boots ${where}; with --snapshot FILE it does so only once`;
  return existsSync(snapshot)
    ? `the guest starts from its snapshot ${where}`
    : `the guest boots ${where}, and is saved for the next time`;
}

async function executeUntil(options: ExecOptions, signal: AbortSignal, bootMs: number): Promise<number> {
  const { io, computer, guest, memory, snapshot, evenIfWritten, command, json, log } = options;
  const how = { limitMs: bootMs, evenIfWritten, once: true, log };
  const starting = startGuest(computer, guest, snapshot, memory, how);
  const waiting = untilAbort(signal, starting);
  const started = await (options.quiet ? waiting : whileShown(io, bootText(options), waiting));
  const end = new JoinedAbort(signal);
  const output = new TextOutput(end);
  const print = guestOutput(io, computer);
  // If the reader of the output is gone, end the command like one that SIGPIPE ends (ui/io.ts).
  void io.stdoutFailed?.then(() => end.abort(new OutputGone()));
  try {
    const status = await computer.console.execute(command, {
      signal: end.signal,
      input: io.stdin.isTTY === true ? undefined : io.stdin,
      onOutput: (bytes) => (json ? output.add(bytes) : print(bytes)),
    });
    if (json) {
      io.stdout.write(`${JSON.stringify({ output: output.text, status, started, counts: computer.counts })}\n`);
    }
    return status;
  } catch (error) {
    if (error instanceof OutputGone) return 0;
    if (error instanceof GuestEnded) throw new FarbusError(`${error.message} before the command had ended`);
    if (error instanceof GuestShellEnded) throw new FarbusError(error.message);
    throw error;
  } finally {
    end.end();
    // Unread input must not keep this program running.
    if (io.stdin.isTTY !== true) io.stdin.destroy();
  }
}

class OutputGone extends Error {
  override readonly name = 'OutputGone';
}

/** Collects the output for the JSON result. */
class TextOutput {
  readonly #decoder = new TextDecoder();
  readonly #end: JoinedAbort;
  #text = '';

  constructor(end: JoinedAbort) {
    this.#end = end;
  }

  /** Adds output. Ends the command if there is too much. */
  add(bytes: Uint8Array): void {
    if (this.#text.length <= maxJson) this.#text += this.#decoder.decode(bytes, { stream: true });
    else this.#end.abort(new FarbusError(`the command printed more than ${maxJson >> 20} MiB: leave --json out`));
  }

  get text(): string {
    return this.#text;
  }
}
