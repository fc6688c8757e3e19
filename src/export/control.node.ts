/**
 * The control socket of a server: a unix socket in a folder of the user's own, on which one JSON request a line is answered
 * by one JSON line. Whoever can open the folder may do everything; nobody else can.
 */
import { readdir } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { controlFolder, findControlFolder, removeDeadSockets } from '../base/control-folder.node.js';
import { FarbusError, messageOf } from '../base/errors.js';
import type { Work } from '../base/work.js';
import { answerLine, NoAnswer, working, type OnWorking } from '../network/control.node.js';
import { listenAtPath } from '../network/listen.node.js';
import { checkSocketPath } from '../network/socket.node.js';

const maxLine = 1 << 16;
const timeoutMs = 10_000;

export type ControlRequest = { readonly command: string } & Readonly<Record<string, unknown>>;

/** Carries out a request. What it gives is sent as JSON; a FarbusError that it rejects with is told. */
export type ControlHandler = (request: ControlRequest, work: Work) => Promise<unknown>;

export interface ControlSocket {
  readonly path: string;
  close(): Promise<void>;
}

/** Opens `NAME.sock` in the folder. Rejects with a FarbusError. */
export async function serveControl(
  name: string,
  handler: ControlHandler,
  env: NodeJS.ProcessEnv = process.env,
): Promise<ControlSocket> {
  const folder = controlFolder(env);
  const path = join(folder, `${name}.sock`);
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.once('error', () => socket.destroy());
    socket.setTimeout(timeoutMs, () => socket.destroy());
    let text = '';
    const take = (chunk: Buffer): void => {
      text += chunk.toString();
      const end = text.indexOf('\n');
      if (end < 0 && text.length > maxLine) socket.destroy();
      if (end < 0) return;
      socket.off('data', take);
      socket.pause();
      void answer(socket, text.slice(0, end), handler).then((reply) => socket.end(`${reply}\n`));
    };
    socket.on('data', take);
  });
  await removeDeadSockets(folder);
  await listenAtPath(server, path);
  server.on('error', () => undefined);
  return {
    path,
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(socket: Socket, line: string, handler: ControlHandler): Promise<string> {
  try {
    const request = JSON.parse(line) as ControlRequest | null;
    if (typeof request !== 'object' || typeof request?.command !== 'string') {
      throw new FarbusError('a request is an object with a command');
    }
    const result = await working(socket, request['progress'] === true, (work) => handler(request, work));
    return JSON.stringify({ result });
  } catch (error) {
    return JSON.stringify({ error: messageOf(error) });
  }
}

export interface AskOptions {
  /** How long the server may say nothing, in ms. */
  readonly limitMs?: number;
  readonly onWorking?: OnWorking;
}

/**
 * Sends one request to the server at `path`; its answer, however long the server says that it works on it. Rejects with a
 * FarbusError: a {@link NoAnswer} where the server says nothing.
 */
export async function askControl(
  path: string,
  request: ControlRequest,
  { limitMs = timeoutMs, onWorking }: AskOptions = {},
): Promise<unknown> {
  checkSocketPath(path);
  const socket = connect({ path });
  let line: string;
  try {
    socket.once('connect', () => socket.write(`${JSON.stringify({ ...request, progress: true })}\n`));
    ({ line } = await answerLine(socket, onWorking, limitMs));
  } catch (error) {
    const why = `the server at ${path} does not answer: ${messageOf(error)}`;
    throw error instanceof NoAnswer ? new NoAnswer(why) : new FarbusError(why, { cause: error });
  } finally {
    socket.on('error', () => undefined);
    socket.destroy();
  }
  let answered: { result?: unknown; error?: string };
  try {
    answered = JSON.parse(line) as typeof answered;
  } catch (error) {
    throw new FarbusError(`what listens at ${path} is no server of farbus`, { cause: error });
  }
  if (answered.error !== undefined) throw new FarbusError(answered.error);
  return answered.result;
}

/** The sockets of this user's servers whose name begins with `prefix`, dead ones included. */
export async function controlSockets(prefix: string, env: NodeJS.ProcessEnv = process.env): Promise<string[]> {
  const folder = findControlFolder(env);
  if (folder === undefined) return [];
  const names = await readdir(folder).catch((error: unknown) => {
    throw new FarbusError(`cannot look into ${folder}: ${messageOf(error)}`, { cause: error });
  });
  return names
    .filter((name) => name.startsWith(prefix) && name.endsWith('.sock'))
    .sort()
    .map((name) => join(folder, name));
}
