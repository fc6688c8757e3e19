/**
 * Listeners on TCP ports and unix sockets that hand out byte streams. A socket file that a dead server left behind is
 * replaced; one that somebody listens on, or a file that is no socket, never.
 */
import { lstat, readFile, readlink, unlink } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { acceptSocket, hostPort, type SocketAddress } from './socket.node.js';
import type { ByteStream } from './stream.js';

/** Longest path of a unix socket, in bytes (sockaddr_un, without its final NUL). */
const maxSocketPath = 107;
const backlog = 511;

/** A listening socket. */
export interface SocketListener {
  /** Where it listens, with the real port. */
  readonly at: SocketAddress;
  /** Stops accepting; open streams go on. Idempotent. */
  close(): Promise<void>;
}

/**
 * Listens.
 * @param at Port 0: any free one.
 * @param accept Called with each new stream; nothing is read from it before it is attached.
 * @param failed Called when accepting fails later (no file descriptors); listening goes on.
 * Rejects with a FarbusError that says what to do.
 */
export async function listenOn(
  at: SocketAddress,
  accept: (stream: ByteStream) => void,
  failed: (error: Error) => void,
): Promise<SocketListener> {
  if ('path' in at && Buffer.byteLength(at.path) > maxSocketPath) {
    throw new FarbusError(
      `the path of a unix socket is at most ${maxSocketPath} bytes: choose a shorter one than ${at.path}`,
    );
  }
  const server = createServer({ pauseOnConnect: true }, (socket: Socket) => accept(acceptSocket(socket)));
  try {
    await bind(server, at);
  } catch (error) {
    if (!('path' in at) || errnoOf(error) !== 'EADDRINUSE' || !(await removeStale(at.path))) throw explain(at, error);
    await bind(server, at).catch((again: unknown) => {
      throw explain(at, again);
    });
  }
  server.on('error', failed);
  let closing: Promise<void> | undefined;
  return {
    at: 'path' in at ? at : { host: at.host, port: (server.address() as AddressInfo).port },
    // Node removes the socket file. Not waiting for open connections: they are their owners'.
    close: () => (closing ??= new Promise((resolve) => (server.close(() => undefined), resolve()))),
  };
}

/**
 * Listens on a socket that is open already, as systemd hands them over: TCP or unix. Its file, if it has one, is left to
 * its owner. As {@link listenOn} otherwise.
 */
export async function listenOnDescriptor(
  fd: number,
  accept: (stream: ByteStream) => void,
  failed: (error: Error) => void,
): Promise<SocketListener> {
  const server = createServer({ pauseOnConnect: true }, (socket: Socket) => accept(acceptSocket(socket)));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd }, () => {
      server.off('error', reject);
      resolve();
    });
  }).catch((error: unknown) => {
    throw new FarbusError(`cannot listen on descriptor ${fd}: ${messageOf(error)}: check the socket unit`, {
      cause: error,
    });
  });
  server.on('error', failed);
  const address = server.address() as AddressInfo | string | null;
  let closing: Promise<void> | undefined;
  return {
    at:
      address !== null && typeof address === 'object' && 'port' in address
        ? { host: address.address, port: address.port }
        : { path: typeof address === 'string' ? address : ((await unixPathOf(fd)) ?? `/proc/self/fd/${fd}`) },
    close: () => (closing ??= new Promise((resolve) => (server.close(() => undefined), resolve()))),
  };
}

/** The path of the listening unix socket that `fd` is, which Node does not tell: from /proc/net/unix. */
async function unixPathOf(fd: number): Promise<string | undefined> {
  try {
    const inode = /^socket:\[(\d+)\]$/.exec(await readlink(`/proc/self/fd/${fd}`))?.[1];
    const table = await readFile('/proc/net/unix', 'utf8');
    const line = table.split('\n').find((one) => one.trim().split(/\s+/)[6] === inode);
    return /\s(\/.*)$/.exec(line ?? '')?.[1];
  } catch {
    return undefined;
  }
}

function bind(server: Server, at: SocketAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ ...at, backlog }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Removes a socket file that nobody listens on. Returns whether it is gone. */
async function removeStale(path: string): Promise<boolean> {
  const isSocket = await lstat(path).then(
    (stat) => stat.isSocket(),
    () => false,
  );
  if (!isSocket) return false;
  const refused = await new Promise<boolean>((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => (probe.destroy(), resolve(false)));
    probe.once('error', (error) => resolve(errnoOf(error) === 'ECONNREFUSED'));
  });
  if (!refused) return false;
  return unlink(path).then(
    () => true,
    () => false,
  );
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is in use: stop what listens there, or choose another place with --listen',
  EADDRNOTAVAIL: 'this computer does not have that address',
  EACCES: 'permission denied: choose another port or path with --listen',
  EPERM: 'permission denied: choose another path with --listen',
  ENOENT: 'there is no such folder',
  ENOTFOUND: 'there is no such host name',
};

function explain(at: SocketAddress, error: unknown): FarbusError {
  const name = 'path' in at ? at.path : hostPort(at.host, at.port);
  return new FarbusError(`cannot listen on ${name}: ${reasons[errnoOf(error) ?? ''] ?? messageOf(error)}`, {
    cause: error,
  });
}
