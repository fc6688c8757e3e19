/**
 * `--detach`: starts the same command again in the background, without a terminal, and waits until
 * it is ready. See detached.ts for the other process.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { FarbusError, messageOf } from '../../base/errors.js';
import { exitStatus } from '../exit-status.js';
import { detachedEnvironment, type DetachedMessage } from './detached.js';
import type { CliIo } from './io.js';
import { onSignals } from './signals.js';

const program = fileURLToPath(new URL('../../../bin/farbus.js', import.meta.url));

/**
 * Runs `farbus ARGS` detached. Resolves with 0 when it is ready, or with its exit status if it ends
 * before that. A signal ends it.
 */
export async function detach(args: readonly string[], io: CliIo): Promise<number> {
  const signals = onSignals();
  // Its own session: neither the terminal's signals nor its end reach it.
  const child = spawn(process.execPath, [program, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: detachedEnvironment(io.env),
  });
  let said = false;
  const ready = new Promise<{ text: string }>((resolve) =>
    child.on('message', (message: DetachedMessage) => {
      if (message.kind === 'ready') return resolve(message);
      said = true;
      io.stderr.write(message.text);
    }),
  );
  const ended = new Promise<{ status: number }>((resolve, reject) => {
    child.once('error', (error) => {
      reject(new FarbusError(`cannot start a process: ${messageOf(error)}`, { cause: error }));
    });
    // `close` comes after the last message.
    child.once('close', (code, signal) => resolve({ status: code ?? 128 + (signal ? constants.signals[signal] : 0) }));
  });
  try {
    const first = await Promise.race([ready, ended, signals.received]);
    if (typeof first === 'number') {
      child.kill('SIGTERM');
      await ended;
      return first || exitStatus.terminated;
    }
    if ('status' in first) {
      const { status } = first;
      if (!said || status === 0) io.stderr.write(`farbus: ${endedText(status)}\n`);
      return status || exitStatus.failed;
    }
    io.stdout.write(first.text);
    return exitStatus.done;
  } finally {
    if (child.connected) child.disconnect();
    child.unref();
    signals.stop();
  }
}

function endedText(status: number): string {
  const signalled = status > 128 && status !== exitStatus.terminated;
  const how = signalled ? `a signal (${status - 128}) ended it` : 'it was ended';
  return `the detached process is not ready: ${how}`;
}
