/** What a command has of the outside world, so that tests can give it another one. */
import type { Logger, LogLevel } from '../base/log.js';

export interface CliIo {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  readonly env: NodeJS.ProcessEnv;
}

export function processIo(): CliIo {
  return { stdin: process.stdin, stdout: process.stdout, stderr: process.stderr, env: process.env };
}

/** A logger for people: one line an entry on stderr, warnings and errors marked; `quiet` keeps those only. */
export function stderrLogger(io: CliIo, quiet = false): Logger {
  return {
    log(level: LogLevel, message: string): void {
      if (level === 'debug' || (quiet && level === 'info')) return;
      const mark = level === 'info' ? '' : `${level === 'warn' ? 'warning' : level}: `;
      io.stderr.write(`farbus: ${mark}${message.replace(/[\r\n]+/g, ' ')}\n`);
    },
  };
}

/** A logger for programs: an object a line on stderr, with `time` (ISO 8601), `level` and `message`. */
export function jsonLogger(io: CliIo): Logger {
  return {
    log(level: LogLevel, message: string): void {
      if (level === 'debug') return;
      io.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), level, message })}\n`);
    },
  };
}
