/**
 * The control socket of a server: a unix socket in a folder of the user's own, on which one JSON request a line is answered
 * by one JSON line. Whoever can open the folder may do everything; nobody else can.
 */
import { chmod, lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';

const maxLine = 1 << 16;
const maxAnswer = 64 << 20;
const timeoutMs = 10_000;

export type ControlRequest = { readonly command: string } & Readonly<Record<string, unknown>>;

/** Carries out a request. What it gives is sent as JSON; a FarbusError that it rejects with is told. */
export type ControlHandler = (request: ControlRequest) => Promise<unknown>;

/** The folder of the sockets: below $XDG_RUNTIME_DIR; for root /run/farbus; else below /tmp, and its owner's only. */
export function controlFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env['XDG_RUNTIME_DIR']) return join(env['XDG_RUNTIME_DIR'], 'farbus');
  const uid = process.getuid?.() ?? 0;
  return uid === 0 ? '/run/farbus' : join(tmpdir(), `farbus-${uid}`);
}

async function privateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const stat = await lstat(path);
  const own = process.getuid === undefined || stat.uid === process.getuid();
  if (!stat.isDirectory() || !own) throw new FarbusError(`${path} is not a folder of this user: remove it`);
  if ((stat.mode & 0o077) !== 0) await chmod(path, 0o700);
}

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
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const end = text.indexOf('\n');
      if (end < 0 && text.length > maxLine) return socket.destroy();
      if (end < 0) return;
      socket.pause();
      void answer(text.slice(0, end), handler).then((reply) => socket.end(`${reply}\n`));
    });
  });
  try {
    await privateFolder(folder);
    await removeLeft(env);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ path }, resolve);
    });
  } catch (error) {
    throw new FarbusError(
      `no control socket at ${path} (${messageOf(error)}): farbus status will not find this server`,
    );
  }
  server.on('error', () => undefined);
  return {
    path,
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Removes what processes that were killed have left: sockets `…-PID.sock` of which there is no process PID, or it is this. */
async function removeLeft(env: NodeJS.ProcessEnv): Promise<void> {
  for (const path of await controlSockets('', env)) {
    const pid = Number(/-(\d+)\.sock$/.exec(path)?.[1] ?? 0);
    if (pid > 0 && (pid === process.pid || !isRunning(pid))) await rm(path, { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ESRCH';
  }
}

async function answer(line: string, handler: ControlHandler): Promise<string> {
  try {
    const request = JSON.parse(line) as unknown;
    if (typeof request !== 'object' || request === null || typeof (request as ControlRequest).command !== 'string') {
      throw new FarbusError('a request is an object with a command');
    }
    return JSON.stringify({ result: await handler(request as ControlRequest) });
  } catch (error) {
    return JSON.stringify({ error: messageOf(error) });
  }
}

/** Whoever listens at a control socket says nothing: it was stopped, or is very busy. */
export class NoAnswer extends FarbusError {}

/**
 * Sends one request to the server at `path`; its answer. Rejects with a FarbusError: a {@link NoAnswer} where none comes
 * within `limitMs`.
 */
export async function askControl(path: string, request: ControlRequest, limitMs = timeoutMs): Promise<unknown> {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect({ path });
    const chunks: Buffer[] = [];
    let length = 0;
    socket.setTimeout(limitMs, () => {
      reject(new NoAnswer(`the server at ${path} does not answer within ${limitMs / 1000} s: was it stopped?`));
      socket.destroy();
    });
    socket.once('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > maxAnswer) socket.destroy(new Error('its answer is too long'));
    });
    socket.once('error', (error) =>
      reject(new FarbusError(`no server answers at ${path}: ${messageOf(error)}`, { cause: error })),
    );
    socket.once('end', () => resolve(Buffer.concat(chunks).toString()));
  });
  const { result, error } = JSON.parse(text) as { result?: unknown; error?: string };
  if (error !== undefined) throw new FarbusError(error);
  return result;
}

/** The sockets of this user's servers whose name begins with `prefix`, dead ones included. */
export async function controlSockets(prefix: string, env: NodeJS.ProcessEnv = process.env): Promise<string[]> {
  const folder = controlFolder(env);
  const names = await readdir(folder).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw new FarbusError(`cannot look into ${folder}: ${messageOf(error)}`, { cause: error });
  });
  return names
    .filter((name) => name.startsWith(prefix) && name.endsWith('.sock'))
    .sort()
    .map((name) => join(folder, name));
}
