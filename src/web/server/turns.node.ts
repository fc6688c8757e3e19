/**
 * The order of requests on one connection. A client may send many requests without waiting for the
 * answers (pipelining). If all were carried out at once, one small packet could make the server
 * read thousands of files. So a request begins when those before it were answered, and few may
 * wait.
 */
import type { Socket } from 'node:net';

/** Most requests of a connection that are carried out or wait. A browser sends one at a time. */
const most = 16;

interface Line {
  count: number;
  /** Resolves when the last request that has come so far is over. */
  last: Promise<void>;
}

/** The part of a response, or of an upgraded connection, that tells that it is over. */
interface Ending {
  once(event: 'close', listener: () => void): unknown;
}

export class Turns {
  readonly #lines = new WeakMap<Socket, Line>();

  /**
   * Waits until the earlier requests of the connection were answered. Resolves to false if the
   * request must not be carried out: the connection is closed, or was closed here because too many
   * requests wait.
   * @param ending closes when this request is over
   */
  async take(socket: Socket, ending: Ending): Promise<boolean> {
    const line = this.#lines.get(socket) ?? { count: 0, last: Promise.resolve() };
    this.#lines.set(socket, line);
    if (line.count >= most) {
      socket.destroy();
      return false;
    }
    line.count++;
    const before = line.last;
    line.last = new Promise((resolve) => {
      ending.once('close', () => {
        line.count--;
        resolve();
      });
    });
    await before;
    return !socket.destroyed;
  }
}
