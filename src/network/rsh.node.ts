/**
 * Client of the remote shell protocol (rsh), as rcmd(3) and rshd(8) of 4.2BSD describe it; there is
 * no RFC.
 *
 * The client connects from a privileged port (512 to 1023), the only proof of its user's name. It
 * sends four fields, each followed by NUL: the number of a local port for the command's standard
 * error, or 0; the local user name; the remote user name; the command. The server answers with NUL,
 * or with a byte 1 and an error message. After the NUL the connection carries the command's
 * standard input and output.
 *
 * Not here: encryption and passwords. The protocol has neither, so it is for trusted networks only.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { userInfo } from 'node:os';
import { Deadline } from '../base/deadline.js';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { hostPort, SocketStream } from './socket.node.js';
import type { ByteStream, StreamEvents } from './stream.js';

export interface RshTarget {
  readonly host: string;
  readonly port?: number | undefined;
  /** Remote user name; default: the local one. */
  readonly user?: string | undefined;
  /** For messages: "rsh://host/dev/sdb". */
  readonly address: string;
}

/** The result of a command that has run to its end. */
export interface RshResult {
  readonly output: Uint8Array;
  /** The start of its standard error. */
  readonly errors: string;
}

const defaultPort = 514;
const firstPort = 512;
const lastPort = 1023;
/** Time limit for connecting and for the server's answer together, in ms. */
const startMs = 15_000;
/** Longest wait for the end of the standard error after that of the standard output, in ms. */
const lateMs = 5000;
/** Longest refusal of a server, and longest standard error that is kept, in characters. */
const maxText = 4096;

/**
 * Starts a command whose standard error is merged into its standard output. Rejects with a
 * FarbusError.
 */
export async function rshStream(target: RshTarget, command: string, signal: AbortSignal): Promise<ByteStream> {
  const { socket, rest } = await start(target, command, 0, signal);
  // The shell has ended: close our half too.
  socket.on('end', () => socket.end());
  return withRest(new SocketStream(socket, target.address), rest);
}

/**
 * Runs a command to its end.
 * @param options `input`: its standard input; `most`: longest output in bytes, more is an error
 * Rejects with a FarbusError. A broken connection can look like the end of the command, so callers
 * must check that the output is complete.
 */
export async function rshRun(
  target: RshTarget,
  command: string,
  { input, most, signal }: { input?: Uint8Array; most: number; signal: AbortSignal },
): Promise<RshResult> {
  const errorPort = await listenPrivileged(target);
  try {
    const errors = errorPort.text(signal);
    errors.catch(() => undefined);
    const { socket, rest } = await start(target, command, errorPort.port, signal);
    const output = await exchange(target, socket, rest, input, most, signal);
    // Wait for its end, but with a limit: some servers never connect to the port.
    const late = setTimeout(() => errorPort.close(), lateMs);
    try {
      return { output, errors: await errors };
    } finally {
      clearTimeout(late);
    }
  } finally {
    errorPort.close();
  }
}

function exchange(
  target: RshTarget,
  socket: Socket,
  rest: Uint8Array,
  input: Uint8Array | undefined,
  most: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = [];
    let length = 0;
    const stop = (error?: Error): void => {
      signal.removeEventListener('abort', abort);
      socket.destroy();
      if (error) reject(error);
      else resolve(Buffer.concat(parts));
    };
    const abort = (): void => stop(new FarbusError(`${target.address}: given up`));
    const take = (chunk: Uint8Array): void => {
      length += chunk.length;
      if (length > most)
        stop(new FarbusError(`${target.address}: more came than was asked for: does the login shell print something?`));
      else parts.push(chunk);
    };
    signal.addEventListener('abort', abort);
    if (signal.aborted) return abort();
    socket.on('error', (error) => stop(explain(target, error)));
    socket.on('end', () => stop());
    if (rest.length > 0) take(rest);
    socket.on('data', take);
    // Half-close: a command that reads its input ends at the input's end.
    if (input) socket.write(input);
    socket.end();
    socket.resume();
  });
}

/**
 * Connects and sends the request. The socket is paused; `rest` has the bytes that arrived after the
 * server's NUL.
 */
async function start(
  target: RshTarget,
  command: string,
  errorPort: number,
  signal: AbortSignal,
): Promise<{ socket: Socket; rest: Uint8Array }> {
  const limit = new Deadline(startMs, signal);
  const socket = await connectPrivileged(target, limit.signal).catch((error: unknown) => {
    limit.end();
    throw error;
  });
  const here = userInfo().username;
  const fields = [String(errorPort), here, target.user ?? here, command];
  if (fields.some((field) => field.includes('\0'))) {
    limit.end();
    socket.destroy();
    throw new FarbusError(`${target.address}: neither names nor commands have a NUL`);
  }
  socket.write(`${fields.join('\0')}\0`);
  return new Promise((resolve, reject) => {
    let got = Buffer.alloc(0);
    const stop = (error: Error): void => {
      limit.end();
      socket.destroy();
      reject(error);
    };
    const abort = (): void =>
      stop(
        signal.aborted
          ? asError(signal.reason)
          : new FarbusError(`cannot reach ${target.address}: the rsh server does not answer`),
      );
    const ended = (): void => {
      const said = printable(got.subarray(1).toString());
      stop(
        new FarbusError(
          `cannot use ${target.address}: the rsh server ${said === '' ? 'hung up: does it accept this computer?' : `says: ${said}`}`,
        ),
      );
    };
    const failed = (error: Error): void => stop(explain(target, error));
    const data = (chunk: Buffer): void => {
      got = Buffer.concat([got, chunk]);
      if (got[0] !== 0) {
        // A refusal is one line of text.
        if (got.length > maxText || got.includes(0x0a)) ended();
        return;
      }
      limit.end();
      socket.pause();
      for (const [name, listener] of [
        ['data', data],
        ['end', ended],
        ['error', failed],
      ] as const)
        socket.off(name, listener);
      resolve({ socket, rest: got.subarray(1) });
    };
    limit.signal.addEventListener('abort', abort);
    if (limit.signal.aborted) return abort();
    socket.on('data', data);
    socket.on('end', ended);
    socket.on('error', failed);
  });
}

/**
 * All privileged ports, from a random one on: a port that was just used cannot be used again for a
 * while (docs/notes/ssh.md, "rsh").
 */
function* privilegedPorts(): Generator<number> {
  const count = lastPort - firstPort + 1;
  const first = Math.floor(Math.random() * count);
  for (let i = 0; i < count; i++) yield firstPort + ((first + i) % count);
}

async function connectPrivileged(target: RshTarget, signal: AbortSignal): Promise<Socket> {
  for (const localPort of privilegedPorts()) {
    try {
      return await connectFrom(target, localPort, signal);
    } catch (error) {
      if (!['EADDRINUSE', 'EADDRNOTAVAIL'].includes(errnoOf(error) ?? '')) throw explain(target, error);
    }
  }
  throw noPort(target);
}

function connectFrom(
  { host, port = defaultPort, address }: RshTarget,
  localPort: number,
  signal: AbortSignal,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, localPort, allowHalfOpen: true });
    const stop = (error: Error): void => {
      signal.removeEventListener('abort', abort);
      socket.destroy();
      reject(error);
    };
    const abort = (): void =>
      stop(new FarbusError(`cannot reach ${address}: no answer: check the address and firewalls in between`));
    signal.addEventListener('abort', abort);
    if (signal.aborted) return abort();
    socket.once('error', stop);
    socket.once('connect', () => {
      signal.removeEventListener('abort', abort);
      socket.off('error', stop);
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

/** A local port for the command's standard error. */
interface ErrorPort {
  readonly port: number;
  /** The text that the server has sent, when it has closed the connection. */
  text(signal: AbortSignal): Promise<string>;
  close(): void;
}

/**
 * Listens on a privileged port, to which the server connects to send the command's standard error.
 */
async function listenPrivileged(target: RshTarget): Promise<ErrorPort> {
  const server = createServer();
  for (const port of privilegedPorts()) {
    const error = await bind(server, port);
    if (error === undefined) return errorPort(server);
    if (errnoOf(error) !== 'EADDRINUSE') throw explain(target, error);
  }
  throw noPort(target);
}

function bind(server: Server, port: number): Promise<Error | undefined> {
  return new Promise((resolve) => {
    server.once('error', resolve);
    server.listen({ port, backlog: 1 }, () => {
      server.off('error', resolve);
      resolve(undefined);
    });
  });
}

function errorPort(server: Server): ErrorPort {
  let peer: Socket | undefined;
  const close = (): void => {
    server.close();
    peer?.destroy();
  };
  const text = (signal: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      let said = '';
      server.on('error', reject);
      signal.addEventListener('abort', close, { once: true });
      server.on('connection', (socket) => {
        // rcmd(3): the server connects from a privileged port. Refuse any other peer.
        if (peer || (socket.remotePort ?? 0) > lastPort) return void socket.destroy();
        peer = socket;
        socket.on('data', (chunk: Buffer) => (said = (said + chunk.toString('latin1')).slice(0, maxText)));
        socket.on('error', () => undefined);
        socket.on('close', () => resolve(said));
      });
      server.on('close', () => {
        if (!peer) resolve(said);
      });
    });
  return { port: (server.address() as AddressInfo).port, text, close };
}

/** `stream`, which delivers `rest` first: bytes that were already read from its socket. */
function withRest(stream: SocketStream, rest: Uint8Array): ByteStream {
  if (rest.length === 0) return stream;
  const attach = stream.attach.bind(stream);
  stream.attach = (events: StreamEvents): void => {
    stream.attach = attach;
    attach(events);
    queueMicrotask(() => stream.receive(rest));
  };
  return stream;
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'rsh needs a privileged port: run this as root, or give node the capability (setcap cap_net_bind_service=ep)',
  EPERM: 'rsh needs a privileged port: run this as root, or give node the capability (setcap cap_net_bind_service=ep)',
  ECONNREFUSED: 'connection refused: does an rsh server listen there?',
  ENOTFOUND: 'no such host: check its name',
  EAI_AGAIN: 'the name could not be resolved: check the network',
  EHOSTUNREACH: 'host unreachable: check the network',
  ENETUNREACH: 'network unreachable: check the network',
  ETIMEDOUT: 'no answer: check the address and firewalls in between',
  ECONNRESET: 'the connection was cut',
};

function explain(target: RshTarget, error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  const what = reasons[errnoOf(error) ?? ''] ?? messageOf(error);
  return new FarbusError(`cannot reach ${target.address}: ${what}`, { cause: error });
}

function noPort(target: RshTarget): FarbusError {
  const where = hostPort(target.host, target.port ?? defaultPort);
  return new FarbusError(
    `cannot reach ${target.address}: all privileged ports have been used for ${where}: wait a minute, or leave literal out`,
  );
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(messageOf(reason));
}
