/**
 * Listeners on TCP ports and unix sockets that accept byte streams. A socket file that a dead
 * server has left is replaced. A socket on which a process listens, and a file that is not a
 * socket, is never replaced.
 */
import { access, lstat, readFile, readlink, unlink } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { isDead } from '../base/owned.node.js';
import { eager } from './eager/stream.node.js';
import { acceptSocket, checkSocketPath, hostPort, type SocketAddress } from './socket.node.js';
import type { ByteStream } from './stream.js';

/** Most connections that the kernel queues before they are accepted. */
const backlog = 511;

/** A listening socket. */
export interface SocketListener {
  /** The address on which it listens, with the actual port. */
  readonly at: SocketAddress;
  /** Stops accepting; open streams go on. Idempotent. */
  close(): Promise<void>;
}

/**
 * Listens at an address.
 * @param at port 0: any free port
 * @param accept receives each new stream; nothing is read from it until it is attached
 * @param failed called when accepting a connection fails (for example without free file
 * descriptors); listening continues Rejects with a FarbusError that says what to do.
 */
export async function listenOn(
  at: SocketAddress,
  accept: (stream: ByteStream) => void,
  failed: (error: Error) => void,
): Promise<SocketListener> {
  if ('path' in at) checkSocketPath(at.path);
  const server = createServer({ pauseOnConnect: true }, (socket: Socket) => accept(eager(acceptSocket(socket))));
  try {
    await bind(server, at);
  } catch (error) {
    if (!('path' in at) || errnoOf(error) !== 'EADDRINUSE' || !(await removeStale(at.path))) {
      throw await explain(at, error);
    }
    await bind(server, at).catch(async (again: unknown) => {
      throw await explain(at, again);
    });
  }
  server.on('error', failed);
  let closing: Promise<void> | undefined;
  return {
    at: 'path' in at ? at : { host: at.host, port: (server.address() as AddressInfo).port },
    // Node removes the socket file. Resolves without waiting for open connections, which belong to
    // others.
    close: () => (closing ??= new Promise((resolve) => (server.close(() => undefined), resolve()))),
  };
}

/** Listens at the path of a unix socket. Rejects with a FarbusError that says what to do. */
export async function listenAtPath(server: Server, path: string): Promise<void> {
  checkSocketPath(path);
  await bind(server, { path }).catch(async (error: unknown) => {
    throw await explain({ path }, error);
  });
}

/**
 * Like {@link listenOn}, on a TCP or unix socket that systemd has already opened. Its socket file,
 * if any, belongs to systemd and is not removed.
 */
export async function listenOnDescriptor(
  fd: number,
  accept: (stream: ByteStream) => void,
  failed: (error: Error) => void,
): Promise<SocketListener> {
  const server = createServer({ pauseOnConnect: true }, (socket: Socket) => accept(eager(acceptSocket(socket))));
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

/**
 * The path of the listening unix socket `fd`, from /proc/net/unix because Node does not give it.
 */
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

/** Removes a socket file if no process listens on it. Returns true if it was removed. */
async function removeStale(path: string): Promise<boolean> {
  const isSocket = await lstat(path).then(
    (stat) => stat.isSocket(),
    () => false,
  );
  if (!isSocket || !(await isDead(path))) return false;
  return unlink(path).then(
    () => true,
    () => false,
  );
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is in use: stop what listens there, or choose another place',
  EADDRNOTAVAIL: 'this computer does not have that address',
  EACCES: 'permission denied: choose another port or path',
  EPERM: 'permission denied: choose another path',
  ENOENT: 'there is no such folder: make it, or choose another path',
  ENOTFOUND: 'there is no such host name',
};

async function explain(at: SocketAddress, error: unknown): Promise<FarbusError> {
  const name = 'path' in at ? at.path : hostPort(at.host, at.port);
  let code = errnoOf(error);
  // libuv reports a missing folder as EACCES (uv_pipe_bind).
  if ('path' in at && code === 'EACCES') code = await access(dirname(at.path)).then(() => code, errnoOf);
  return new FarbusError(`cannot listen on ${name}: ${reasons[code ?? ''] ?? messageOf(error)}`, {
    cause: error,
  });
}

/** The reason why a server cannot listen on a TCP port, and the remedy. */
export function whyNotListening(error: unknown): string {
  return reasons[errnoOf(error) ?? ''] ?? `${messageOf(error)}: choose another address`;
}
