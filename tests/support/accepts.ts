import { connect, type NetConnectOpts } from 'node:net';

/** True if a server accepts a connection at this place. */
export function accepts(place: NetConnectOpts): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(place);
    const end = (ok: boolean): void => {
      socket.destroy();
      resolve(ok);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}
