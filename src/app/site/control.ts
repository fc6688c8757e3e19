/**
 * The control socket of a running site: a unix socket in a folder that only its user can access.
 *
 * A client sends one line of JSON and gets one line back; in between, a client that asks for
 * progress gets progress lines. After `console`, both directions carry the raw bytes of the
 * console until the computer ends.
 */
import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeDeadSockets } from '../control/folder.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { answerLine, NoAnswer, working, type OnWorking } from '../control/working.js';
import { listenAtPath } from '../../network/listen.node.js';
import { checkSocketPath } from '../../network/socket.node.js';
import { isOver, type LeaseState } from '../../site/computer.js';
import type { ComputerStatus, Supervisor } from '../../site/supervisor.js';

/** A request of a client. */
export type ControlRequest =
  | { readonly op: 'status' }
  | { readonly op: 'down' }
  | { readonly op: 'console'; readonly computer: string }
  | { readonly op: 'lease'; readonly device: string; readonly to: string };

/** The reply to a request; `error` if it failed. */
export interface ControlReply {
  readonly error?: string;
  readonly computers?: readonly ComputerStatus[];
  readonly leases?: readonly LeaseState[];
  readonly logs?: string;
}

/** Maximum length of a request, in bytes. */
const maxLine = 64 << 10;
/** Time for a client to send its request after it connects, in ms. */
const requestMs = 10_000;
/** How long the end of the site waits for answers to requests, in ms. */
const answerMs = 500;
/** Maximum bytes buffered for a slow console reader; further output is dropped. */
const maxPending = 1 << 20;

/** Listens at `path`. Rejects with a FarbusError if a site with this name is already running. */
export async function listenControl(
  path: string,
  supervisor: Supervisor,
  logs: string,
  down: () => Promise<void>,
): Promise<() => Promise<void>> {
  if (await answers(path)) {
    throw new FarbusError(`the site ${supervisor.name} runs already: end it with farbus down ${supervisor.name}`);
  }
  await removeDeadSockets(dirname(path));
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const serving = new Set<Promise<void>>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    const served = serve(socket, supervisor, logs, down);
    serving.add(served);
    void served.finally(() => serving.delete(served));
  });
  await listenAtPath(server, path);
  server.on('error', () => undefined);
  return async () => {
    // The answer to the request that ends the site is to go out.
    await Promise.race([Promise.allSettled(serving), sleep(answerMs, undefined, { ref: false })]);
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroySoon();
      setTimeout(() => sockets.forEach((socket) => socket.destroy()), 500).unref();
    });
  };
}

async function serve(socket: Socket, supervisor: Supervisor, logs: string, down: () => Promise<void>): Promise<void> {
  const reply = (message: ControlReply): void => void socket.write(`${JSON.stringify(message)}\n`);
  try {
    const { line, rest } = await readLine(socket, requestMs);
    const request = JSON.parse(line) as ControlRequest & { progress?: boolean };
    const tells = request.progress === true;
    switch (request.op) {
      case 'status':
        reply({ computers: supervisor.status, leases: supervisor.leases, logs });
        break;
      case 'lease':
        await working(socket, tells, (work) => supervisor.moveLease(String(request.device), String(request.to), work));
        reply({ leases: supervisor.leases });
        break;
      case 'down':
        await working(socket, tells, async (work) => {
          const left = (): string =>
            supervisor.status.flatMap((one) => (isOver(one.state) ? [] : [one.name])).join(', ');
          work.waitsFor(() => `${left() || 'the segments'} to end`);
          await down();
        });
        reply({});
        break;
      case 'console':
        return console(socket, supervisor, String(request.computer), rest, reply);
      default:
        reply({ error: 'this farbus does not know that request: is it of another version?' });
    }
  } catch (error) {
    reply({ error: messageOf(error) });
  }
  socket.end();
}

function console(
  socket: Socket,
  supervisor: Supervisor,
  computer: string,
  rest: Uint8Array,
  reply: (message: ControlReply) => void,
): void {
  let replied = false;
  const accept = (): void => {
    if (!replied) reply({});
    replied = true;
  };
  const stop = supervisor.watch(computer, {
    receive: (bytes) => {
      accept();
      if (socket.writableLength < maxPending) socket.write(bytes);
    },
    over: () => {
      accept();
      socket.end();
    },
  });
  accept();
  socket.on('close', stop);
  socket.on('end', () => socket.end());
  socket.on('data', (bytes: Buffer) => supervisor.input(computer, bytes));
  if (rest.length > 0) supervisor.input(computer, rest);
  socket.resume();
}

/**
 * Sends a request and waits for its reply, for as long as the site reports progress. Afterwards
 * the socket is at the bytes after the reply. Rejects with a FarbusError.
 */
export async function control(
  path: string,
  request: ControlRequest,
  onWorking?: OnWorking,
): Promise<{ readonly reply: ControlReply; readonly socket: Socket; readonly rest: Uint8Array }> {
  checkSocketPath(path);
  const socket = connect(path);
  try {
    socket.once('connect', () => socket.write(`${JSON.stringify({ ...request, progress: true })}\n`));
    const { line, rest } = await answerLine(socket, onWorking);
    socket.on('error', () => undefined);
    const reply = JSON.parse(line) as ControlReply;
    if (reply.error !== undefined) throw new FarbusError(reply.error);
    return { reply, socket, rest };
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    if (error instanceof FarbusError && !(error instanceof NoAnswer)) throw error;
    throw new FarbusError(`the site does not answer: ${messageOf(error)}`, { cause: error });
  }
}

/** True if a process listens on the socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * Reads the first line. The socket is then paused; `rest` has the bytes received after the line.
 */
function readLine(socket: Socket, ms: number): Promise<{ line: string; rest: Uint8Array }> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const end = (): void => {
      clearTimeout(timer);
      socket.off('data', take);
      socket.off('close', closed);
    };
    const fail = (why: string): void => {
      end();
      reject(new Error(why));
    };
    const closed = (): void => fail('the connection ended');
    const timer = setTimeout(() => fail('it took too long'), ms);
    const take = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      const at = bytes.indexOf(0x0a);
      if (at < 0) {
        if (bytes.length > maxLine) fail('the line is too long');
        return;
      }
      end();
      socket.pause();
      resolve({ line: bytes.subarray(0, at).toString(), rest: bytes.subarray(at + 1) });
    };
    socket.on('data', take);
    socket.on('close', closed);
  });
}
