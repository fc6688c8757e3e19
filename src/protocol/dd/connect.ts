/**
 * Starts a session: runs a command on the server, sends the script, and waits until the script
 * accepts commands. Output of the login shell before that is skipped.
 */
import { Deadline } from '../../base/deadline.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { ByteStream } from '../../network/stream.js';
import type { Elevation } from '../ssh/uri.js';
import { printable } from '../../base/printable.js';
import { startError } from './errors.js';
import { shellFacts } from './facts.js';
import { newNames, script, startCommand, type SessionNames } from './script.js';
import { ShellChannel } from './shell.js';

/** Runs a command with the login shell of a server: by ssh or rsh. */
export interface CommandDialer {
  /** The address, for messages. */
  readonly address: string;
  /** Advice for the case that the server refuses the login. */
  readonly hint?: string;
  run(command: string, signal: AbortSignal): Promise<ByteStream>;
}

export interface ShellOptions {
  readonly path: string;
  readonly readOnly: boolean;
  readonly size?: number | undefined;
  readonly elevation?: Elevation | undefined;
  /** Time limit for the whole start, in seconds. */
  readonly startSeconds: number;
}

/**
 * Most bytes before the script is ready, in bytes: banners and other output, and the script's own
 * report.
 */
const maxJunk = 1 << 20;

/** Opens a session. Rejects with an error whose message is for users. */
export async function connectShell(
  dialer: CommandDialer,
  options: ShellOptions,
  signal: AbortSignal | undefined,
): Promise<ShellChannel> {
  const names = newNames();
  const { elevation } = options;
  const command = startCommand(names.token, elevation === undefined ? '' : `${elevation} -n --`);
  const limit = new Deadline(options.startSeconds * 1000, signal);
  let stream: ByteStream | undefined;
  try {
    stream = await dialer.run(command, limit.signal);
    const said = await readReport(stream, dialer, names, options, limit.signal);
    const facts = shellFacts(dialer.address, said, options.size);
    return new ShellChannel(stream, facts, names, dialer.address);
  } catch (error) {
    stream?.destroy();
    throw limit.passed ? tooSlow(dialer.address, options.startSeconds) : error;
  } finally {
    limit.end();
  }
}

function tooSlow(address: string, seconds: number): FarbusError {
  return new FarbusError(
    `cannot reach ${address}: no session within ${seconds} seconds: check that logging in there runs a shell`,
  );
}

/** Sends the script and reads its report. Skips all other output. */
function readReport(
  stream: ByteStream,
  dialer: CommandDialer,
  names: SessionNames,
  options: ShellOptions,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const { address } = dialer;
  return new Promise((resolve, reject) => {
    const said = new Map<string, string>();
    const decoder = new TextDecoder('latin1');
    let rest = '';
    let skipped = 0;
    let junk = '';
    const stop = (error: unknown): void => {
      signal.removeEventListener('abort', aborted);
      stream.attach({ data: () => undefined, drain: () => undefined, closed: () => undefined });
      reject(error instanceof Error ? error : new Error(messageOf(error)));
    };
    const aborted = (): void => stop(signal.reason);
    const line = (text: string): boolean => {
      if (!text.startsWith(`${names.marker} `)) {
        if (text.trim() !== '') junk = text;
        return false;
      }
      const [, key = '', value = ''] = /^\S+ (\S+) ?(.*)$/.exec(text) ?? [];
      if (key === 'ready') {
        signal.removeEventListener('abort', aborted);
        resolve(said);
        return true;
      }
      if (key === 'fail') {
        const [, code = '', why = ''] = /^(\S*) ?(.*)$/.exec(value) ?? [];
        stop(startError(address, code, why));
        return true;
      }
      said.set(key, value);
      return false;
    };
    signal.addEventListener('abort', aborted);
    stream.attach({
      data: (chunk) => {
        skipped += chunk.length;
        rest += decoder.decode(chunk);
        for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
          const text = rest.slice(0, end);
          rest = rest.slice(end + 1);
          if (line(text)) return;
        }
        if (skipped > maxJunk) stop(new FarbusError(`cannot use ${address}: its login shell prints without end`));
      },
      drain: () => undefined,
      closed: (error) =>
        // If the server closes without having read all input, the stream's error (a reset) says
        // nothing useful: prefer the server's last output.
        stop(
          error instanceof FarbusError
            ? error
            : endedEarly(dialer, options, junk || rest || (error ? messageOf(error) : '')),
        ),
    });
    stream.write([new TextEncoder().encode(script({ path: options.path, readOnly: options.readOnly, names }))]);
  });
}

function endedEarly({ address, hint }: CommandDialer, { elevation }: ShellOptions, said: string): FarbusError {
  const advice = elevation === undefined ? hint : `does ${elevation} -n sh work there without a password?`;
  const text = printable(said);
  const what = text === '' ? '' : `: ${text}`;
  return new FarbusError(`cannot use ${address}: the login there ended at once${what}${advice ? `; ${advice}` : ''}`);
}
