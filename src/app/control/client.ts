/** The client of control sockets (server.ts). */
import { connect, type Socket } from 'node:net';
import { onAbort } from '../../base/abort.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { checkSocketPath } from '../../network/socket.node.js';
import type { ControlRequest } from './server.js';
import { answerLine, type OnWorking } from './working.js';

export interface AskOptions {
  /** Longest time without a line from the server, in ms. Default 10000. */
  readonly limitMs?: number;
  /** `limitMs` is for the answer as a whole, however often the server reports that it works. */
  readonly absolute?: boolean;
  readonly onWorking?: OnWorking;
  /** Withdraws the request: it rejects with the signal's reason. Later it has no effect. */
  readonly signal?: AbortSignal;
}

/**
 * Sends one request to the server at `path` and waits for its answer, for as long as the server
 * reports that it works on it. Rejects with a FarbusError, of the kind `no-answer` if the server
 * is silent.
 */
export async function askControl(path: string, request: ControlRequest, options: AskOptions = {}): Promise<unknown> {
  const { socket, result } = await openControl(path, request, options);
  socket.destroy();
  return result;
}

/** Like {@link askControl}, for a stream: the socket carries its bytes, after those in `rest`. */
export async function openControl(
  path: string,
  request: ControlRequest,
  { limitMs, absolute, onWorking, signal }: AskOptions = {},
): Promise<{ readonly socket: Socket; readonly rest: Uint8Array; readonly result: unknown }> {
  checkSocketPath(path);
  signal?.throwIfAborted();
  const socket = connect({ path });
  const unwatch = onAbort(signal, () => socket.destroy());
  try {
    socket.once('connect', () => socket.write(`${JSON.stringify({ ...request, progress: true })}\n`));
    const { line, rest } = await answerLine(socket, onWorking, { limitMs, absolute }).catch((error: unknown) => {
      signal?.throwIfAborted();
      const why = `the server at ${path} does not answer: ${messageOf(error)}`;
      const kind = error instanceof FarbusError ? error.kind : 'failed';
      throw new FarbusError(why, { kind, cause: error });
    });
    socket.on('error', () => undefined);
    const { result, error } = parsed(path, line);
    if (error !== undefined) throw new FarbusError(error);
    return { socket, rest, result };
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    throw error;
  } finally {
    unwatch();
  }
}

function parsed(path: string, line: string): { readonly result?: unknown; readonly error?: string } {
  try {
    return JSON.parse(line) as { result?: unknown; error?: string };
  } catch (error) {
    throw new FarbusError(`the process that listens at ${path} is no server of farbus`, { cause: error });
  }
}
