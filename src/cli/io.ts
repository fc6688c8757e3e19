/** The outside world of a command, so that tests can give it another one; and the loggers that write there. */
import { errnoOf, messageOf } from '../base/errors.js';
import type { Logger, LogLevel } from '../base/log.js';
import { jsonLine, printable } from '../base/printable.js';
import { visible } from '../base/printable.js';
import { ProcessOutput, type LogOutput, type ResultOutput } from './output.js';

export interface CliIo {
  readonly stdin: NodeJS.ReadStream;
  /** Results. A write that fails emits `error`, which does not end the program; {@link finish} makes it the exit status. */
  readonly stdout: ResultOutput;
  /** Logs, progress and errors. A write never throws, never waits, and is lost where it cannot be done. */
  readonly stderr: LogOutput;
  readonly env: NodeJS.ProcessEnv;
  /** Resolves when stdout cannot be written any more: nobody reads what comes. Absent in tests. */
  readonly stdoutFailed?: Promise<unknown>;
}

/** Longest line of a log for people, in characters. */
const maxLine = 2000;

/** Of a process that a signal SIGPIPE ended, as a shell has it. */
const brokenPipeStatus = 141;

/** Those whose results are told on the side: they go on where nobody could be told. */
const going = new WeakSet<CliIo>();

export function processIo(): CliIo {
  const { stdout, stderr, failed } = ProcessOutput.get();
  return { stdin: process.stdin, stdout, stderr, env: process.env, stdoutFailed: failed };
}

/** Keeps warnings of Node's that cannot be written from ending a process that prints nothing itself. */
export function guardOutput(): void {
  ProcessOutput.get();
}

/**
 * Ends a command that would end with `status`: waits until its output is written.
 * @returns The exit status: 141 where nobody read the results to their end, 1 where they could not be written.
 */
export async function finish(io: CliIo, status: number): Promise<number> {
  const output = ProcessOutput.get();
  if (io.stdout !== output.stdout) return status;
  await output.flush();
  const { failure } = output;
  if (!failure || going.has(io)) return status;
  if (errnoOf(failure) === 'EPIPE') return status || brokenPipeStatus;
  io.stderr.write(`farbus: cannot write the output: ${messageOf(failure)}\n`);
  await output.flush();
  return status || 1;
}

/** Prints a result of a command that then goes on, as a server does. That it cannot be written is a warning. */
export function announce(io: CliIo, text: string, log: Logger): void {
  going.add(io);
  io.stdout.write(text, (error) => {
    if (error && errnoOf(error) !== 'EPIPE') log.log('warn', `cannot print the addresses: ${messageOf(error)}`);
  });
}

/** A logger for people: one line an entry on stderr, warnings and errors marked; `quiet` keeps those only. */
export function stderrLogger(io: CliIo, quiet = false): Logger {
  return logger(io, quiet, (level, message) => {
    const mark = level === 'info' ? '' : `${level === 'warn' ? 'warning' : level}: `;
    return `farbus: ${mark}${printable(message, maxLine)}\n`;
  });
}

/** A logger for programs: an object a line on stderr, with `time` (ISO 8601), `level` and `message`. */
export function jsonLogger(io: CliIo): Logger {
  return logger(io, false, (level, message) => jsonLine({ time: new Date().toISOString(), level, message }));
}

/** When lines can be written again, how many were lost is told before the next one. */
function logger(io: CliIo, quiet: boolean, line: (level: LogLevel, message: string) => string): Logger {
  return {
    log(level: LogLevel, message: string): void {
      if (level === 'debug' || (quiet && level === 'info')) return;
      const lost = io.stderr.takeLost?.() ?? 0;
      const note = lost > 0 ? line('warn', `${lost} lines before this one could not be written`) : '';
      io.stderr.write(note + line(level, message));
    },
  };
}

/** Tells on stderr for what a server waits, which a command has asked for something. */
export function tellWaiting(io: CliIo): (what: string) => void {
  return (what) => io.stderr.write(`farbus: waiting for ${visible(what)}\n`);
}
