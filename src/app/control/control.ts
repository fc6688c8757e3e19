/**
 * The control socket of a server: a unix socket in the user's folder of control sockets
 * (app/control/folder.ts). A client sends one JSON request as a line and gets one JSON line
 * as the answer. Access to the folder is the only permission: a user who has it may send every
 * command.
 *
 * Not here: progress lines and withdrawal of long requests (working.ts), the commands
 * (their handlers).
 */
import { readdir } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { controlFolder, findControlFolder, removeDeadSockets } from './folder.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { Work } from '../../base/work.js';
import { answerLine, NoAnswer, working, type OnWorking } from './working.js';
import { listenAtPath } from '../../network/listen.node.js';
import { checkSocketPath } from '../../network/socket.node.js';

/** Longest request, in characters. */
const maxLine = 1 << 16;
/**
 * A connection without any traffic is closed after this time, in ms; also the default limit of a
 * client.
 */
const timeoutMs = 10_000;

export type ControlRequest = { readonly command: string } & Readonly<Record<string, unknown>>;

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
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.once('error', () => socket.destroy());
    socket.setTimeout(timeoutMs, () => socket.destroy());
    let text = '';
    // A chunk may end within a character.
    const decoder = new TextDecoder();
    const take = (chunk: Buffer): void => {
      text += decoder.decode(chunk, { stream: true });
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
  /** Longest time without a line from the server, in ms. Default 10000. */
  readonly limitMs?: number;
  readonly onWorking?: OnWorking;
}

/**
 * Sends one request to the server at `path` and waits for its answer, for as long as the server
 * reports that it works on it. Rejects with a FarbusError: a {@link NoAnswer} if the server is
 * silent.
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
    throw new FarbusError(`the program that listens at ${path} is not a farbus server`, { cause: error });
  }
  if (answered.error !== undefined) throw new FarbusError(answered.error);
  return answered.result;
}

/** Paths of this user's control sockets whose name begins with `prefix`, including dead ones. */
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
