/** Starting a session: from a dialed command to a script that takes commands, whatever the login shell prints before it. */
import { Deadline } from '../../base/deadline.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { ByteStream } from '../../network/stream.js';
import type { Elevation } from '../ssh/uri.js';
import { printable } from '../../base/printable.js';
import { startError } from './errors.js';
import { shellFacts } from './facts.js';
import { newNames, script, startCommand, type SessionNames } from './script.js';
import { ShellChannel } from './shell.js';

/** A way to run a command of the login shell on a server: ssh, rsh. */
export interface CommandDialer {
  /** For messages. */
  readonly address: string;
  /** What to do where the server does not let this user in. */
  readonly hint?: string;
  run(command: string, signal: AbortSignal): Promise<ByteStream>;
}

export interface ShellOptions {
  readonly path: string;
  readonly readOnly: boolean;
  readonly size?: number | undefined;
  readonly elevation?: Elevation | undefined;
  /** Limit for the whole start, in seconds. */
  readonly startSeconds: number;
}

/** Bytes of banners and other output that are skipped before the script begins, and the length of its report. */
const maxJunk = 1 << 20;

/** Opens a session. Rejects with an error whose message is fit for a user. */
export async function connectShell(
  dialer: CommandDialer,
  options: ShellOptions,
  signal: AbortSignal,
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

/** Sends the script and reads what it reports, skipping everything else. */
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
        // One that hangs up on what it has not read causes an error that says nothing.
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
