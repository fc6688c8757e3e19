/**
 * The control sockets of servers, computers and sites: unix sockets in the user's folder of control
 * sockets (folder.ts). A client sends one JSON request as a line and gets one JSON line as the
 * answer. After the answer of a request for a stream, the socket carries its bytes in both
 * directions. Access to the folder is the only permission: a user who has it may send every
 * command.
 *
 * Not here: progress lines and withdrawal of long requests (working.ts), the client (client.ts),
 * the commands (their handlers).
 */
import { rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { Work } from '../../base/work.js';
import { listenAtPath } from '../../network/listen.node.js';
import { controlFolder, removeDeadSockets } from './folder.js';
import { working } from './working.js';

/** Longest request, in bytes. */
const maxLine = 1 << 16;
/** A connection without any traffic is closed after this time, in ms, unless it is a stream. */
const timeoutMs = 10_000;
/** Time for which the end waits for answers to go out, in ms. */
const answerMs = 500;

export type ControlRequest = { readonly command: string } & Readonly<Record<string, unknown>>;

/** A result after whose answer the socket carries a stream of bytes. */
export class ControlStream {
  /**
   * Takes the socket over.
   * @param rest bytes that arrived after the request
   */
  readonly take: (socket: Socket, rest: Uint8Array) => void;

  constructor(take: (socket: Socket, rest: Uint8Array) => void) {
    this.take = take;
  }
}

/**
 * Executes a request. The server sends its result as JSON, or the message of the error that it
 * rejects with.
 */
export type ControlHandler = (request: ControlRequest, work: Work) => Promise<unknown>;

export interface ControlSocket {
  readonly path: string;
  close(): Promise<void>;
}

/**
 * Opens the control socket `NAME.sock`, after it has removed dead ones. Rejects with a FarbusError.
 */
export async function serveControl(
  name: string,
  handler: ControlHandler,
  env: NodeJS.ProcessEnv = process.env,
): Promise<ControlSocket> {
  const folder = controlFolder(env);
  const path = join(folder, `${name}.sock`);
  const open = new Set<Socket>();
  const answering = new Set<Promise<void>>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.setTimeout(timeoutMs, () => socket.destroy());
    takeLine(socket, (line, rest) => {
      const answered = answer(socket, line, rest, handler);
      answering.add(answered);
      void answered.finally(() => answering.delete(answered));
    });
  });
  await removeDeadSockets(folder);
  // A killed process of this name may have left it a moment ago.
  await rm(path, { force: true });
  await listenAtPath(server, path);
  server.on('error', () => undefined);
  return {
    path,
    close: async () => {
      // The answer to the request that causes the end is to go out.
      await Promise.race([Promise.allSettled(answering), sleep(answerMs, undefined, { ref: false })]);
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of open) socket.destroySoon();
      setTimeout(() => open.forEach((socket) => socket.destroy()), answerMs).unref();
      await closed;
    },
  };
}

/** Passes on the first line, and the bytes after it. The socket is then paused. */
function takeLine(socket: Socket, take: (line: string, rest: Uint8Array) => void): void {
  const chunks: Buffer[] = [];
  let length = 0;
  const receive = (chunk: Buffer): void => {
    const end = chunk.indexOf(0x0a);
    chunks.push(end < 0 ? chunk : chunk.subarray(0, end));
    length += chunk.length;
    if (end < 0) {
      if (length > maxLine) socket.destroy();
      return;
    }
    socket.off('data', receive);
    socket.pause();
    take(Buffer.concat(chunks).toString(), chunk.subarray(end + 1));
  };
  socket.on('data', receive);
}

async function answer(socket: Socket, line: string, rest: Uint8Array, handler: ControlHandler): Promise<void> {
  try {
    const request = JSON.parse(line) as ControlRequest | null;
    if (typeof request !== 'object' || typeof request?.command !== 'string') {
      throw new FarbusError('a request is an object with a command');
    }
    const result = await working(socket, request['progress'] === true, (work) => handler(request, work));
    if (!(result instanceof ControlStream)) return void socket.end(`${JSON.stringify({ result })}\n`);
    socket.setTimeout(0);
    socket.write(`${JSON.stringify({ result: {} })}\n`);
    result.take(socket, rest);
  } catch (error) {
    socket.end(`${JSON.stringify({ error: messageOf(error) })}\n`);
  }
}
