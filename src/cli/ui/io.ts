/**
 * Input, output and environment of a command, replaceable in tests, and the loggers that use them.
 */
import { errnoOf, messageOf } from '../../base/errors.js';
import type { Logger, LogLevel } from '../../base/log.js';
import { jsonLine, printable, visible } from '../../base/printable.js';
import { withoutSecrets } from '../../base/web-address.js';
import { exitStatus } from '../exit-status.js';
import { coloured } from './style.js';
import { Detached } from './detached.js';
import { ProcessOutput, type LogOutput, type ResultOutput } from './output.js';

/** Input, output and environment of a command. */
export interface CliIo {
  readonly stdin: NodeJS.ReadStream;
  /**
   * Results. A failed write emits `error`, which does not end the program; {@link finish} turns it
   * into the exit status.
   */
  readonly stdout: ResultOutput;
  /**
   * Logs, progress and errors. A write never throws or waits; text that cannot be written is lost.
   */
  readonly stderr: LogOutput;
  readonly env: NodeJS.ProcessEnv;
  /** Resolves when stdout can no longer be written because its reader is gone. Absent in tests. */
  readonly stdoutFailed?: Promise<unknown>;
  /** This process as one that `--detach` leaves running. */
  readonly detached?: Detached;
}

/** Maximum length of a log line for people, in characters. */
const maxLine = 2000;

/** Commands that only announce results and continue even if the results cannot be written. */
const going = new WeakSet<CliIo>();

/** The input, output and environment of this process. */
export function processIo(): CliIo {
  const detached = Detached.take();
  const { stdin, env } = process;
  if (detached) return { stdin, stdout: detached.stdout, stderr: detached.stderr, env, detached };
  const { stdout, stderr, failed } = ProcessOutput.get();
  return { stdin, stdout, stderr, env, stdoutFailed: failed };
}

/**
 * Waits until the output of a command is written, and computes the exit status.
 * @returns `status`; 141 if the reader left before the end of the results; 1 if they could not be
 * written.
 */
export async function finish(io: CliIo, status: number): Promise<number> {
  await io.detached?.flush();
  const output = ProcessOutput.get();
  if (io.stdout !== output.stdout) return status;
  await output.flush();
  const { failure } = output;
  if (!failure || going.has(io)) return status;
  if (errnoOf(failure) === 'EPIPE') return status || exitStatus.brokenPipe;
  io.stderr.write(`farbus: cannot write the output: ${messageOf(failure)}\n`);
  await output.flush();
  return status || exitStatus.failed;
}

/**
 * Prints a result of a command that continues, such as a server. A failure to write it is only a
 * warning.
 */
export function announce(io: CliIo, text: string, log: Logger): void {
  going.add(io);
  io.stdout.write(text, (error) => {
    if (error && errnoOf(error) !== 'EPIPE') log.log('warn', `cannot print the addresses: ${messageOf(error)}`);
  });
}

/**
 * A logger for people: one line per entry on stderr, with warnings and errors marked. `quiet` omits
 * other entries.
 */
export function stderrLogger(io: CliIo, quiet = false): Logger {
  return logger(io, quiet, (level, message) => {
    const mark = level === 'info' ? '' : `${markOf(level, io)} `;
    return `farbus: ${mark}${printable(message, maxLine)}\n`;
  });
}

/** "warning:" or "error:", in its colour on a terminal. */
function markOf(level: LogLevel, { stderr, env }: CliIo): string {
  if (level === 'warn') return coloured('warning', 'warning:', stderr, env);
  return level === 'error' ? coloured('error', 'error:', stderr, env) : `${level}:`;
}

/**
 * A logger for programs: one JSON object per line on stderr, with `time` (ISO 8601), `level` and
 * `message`.
 */
export function jsonLogger(io: CliIo): Logger {
  return logger(io, false, (level, message) => jsonLine({ time: new Date().toISOString(), level, message }));
}

/** Makes a logger. When writing works again after lost lines, it first reports their number. */
function logger(io: CliIo, quiet: boolean, line: (level: LogLevel, message: string) => string): Logger {
  return {
    log(level: LogLevel, message: string): void {
      if (level === 'debug' || (quiet && level === 'info')) return;
      const lost = io.stderr.takeLost?.() ?? 0;
      const note = lost > 0 ? line('warn', `${lost} lines before this one could not be written`) : '';
      io.stderr.write(note + line(level, withoutSecrets(message)));
    },
  };
}

/** Returns a function that prints on stderr what the server is waiting for. */
export function tellWaiting(io: CliIo): (what: string) => void {
  return (what) => io.stderr.write(`farbus: waiting for ${visible(withoutSecrets(what))}\n`);
}
