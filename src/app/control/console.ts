/** The stream of a console on a control socket. */
import type { ConsoleFeed } from '../../base/console-feed.js';
import { ControlStream } from './server.js';

/** Maximum bytes buffered for a slow terminal; further output is dropped. */
const maxPending = 1 << 20;
/** Maximum bytes buffered for a slow command, which may miss no output: it ends instead. */
const maxCommandPending = 64 << 20;

/** Reasons that another user of a console is told. */
const terminal = 'another terminal uses this console (farbus console, or the console page): leave it there first';
const command = 'a command of farbus exec runs on this console: try again when it has ended';

/**
 * The result of `console`: the socket carries the console's output, and input for `send`.
 * @param alone true for a command, which no other input may disturb
 * @throws FarbusError if another user has the console
 */
export function consoleStream(
  feed: Pick<ConsoleFeed, 'watch' | 'use'>,
  send: (bytes: Uint8Array) => void,
  alone = false,
): ControlStream {
  const leave = feed.use(alone ? command : terminal, alone);
  return new ControlStream((socket, rest) => {
    if (socket.destroyed) return leave();
    socket.on('close', leave);
    const stop = feed.watch({
      receive: (bytes) => {
        if (socket.writableLength < (alone ? maxCommandPending : maxPending)) socket.write(bytes);
        else if (alone) socket.destroy();
      },
      over: () => socket.end(),
    });
    socket.on('close', stop);
    socket.on('end', () => socket.end());
    socket.on('data', (bytes: Buffer) => send(bytes));
    if (rest.length > 0) send(rest);
    socket.resume();
  });
}
