/** The stream of a console on a control socket. */
import type { ConsoleFeed } from '../../base/console-feed.js';
import { ControlStream } from './server.js';

/** Maximum bytes buffered for a slow reader; further output is dropped. */
const maxPending = 1 << 20;

/** The result of `console`: the socket carries the console's output, and input for `send`. */
export function consoleStream(feed: Pick<ConsoleFeed, 'watch'>, send: (bytes: Uint8Array) => void): ControlStream {
  return new ControlStream((socket, rest) => {
    const stop = feed.watch({
      receive: (bytes) => {
        if (socket.writableLength < maxPending) socket.write(bytes);
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
