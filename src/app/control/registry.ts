/**
 * The running processes of this user: computers of `farbus run`, servers, attached disks and sites.
 * Each has a control socket KIND-NAME.PID.sock in the folder of control sockets (folder.ts). The
 * socket claims the name: two living processes never have the same one.
 *
 * Claim: a process binds its socket, then looks for others of that name. The older one keeps the
 * name. Two of the same age both give way and try again after a random time. So no lock is needed
 * that a killed process could leave behind.
 *
 * Not here: finding a process by its name (find.ts), describing it (description.ts).
 */
import { lstat, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { isDead, isRunning } from '../../base/owned.node.js';
import { withoutSecrets } from '../../base/web-address.js';
import type { Description } from './description.js';
import { findControlFolder } from './folder.js';
import { kindWords, type ProcessKind, type Registered } from './kinds.js';
import { serveControl, type ControlHandler } from './server.js';

const namePattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/;
const socketPattern = /^(computer|serve|attach|site)-([A-Za-z0-9][A-Za-z0-9_-]{0,39})\.(\d{1,10})\.sock$/;
/** Most sockets that are looked at: the folder may contain anything. */
const mostSockets = 1000;
/** A younger socket may belong to a process that has bound it and does not listen yet, in ms. */
const youngMs = 1000;
/** Attempts to claim a name that a process of the same age also wants. */
const attempts = 20;

/** @throws FarbusError if the name cannot be part of a socket's file name */
export function checkName(name: string): string {
  if (namePattern.test(name)) return name;
  throw usageError(
    `${JSON.stringify(name.slice(0, 100))} is no name: give letters, digits, - and _, at most 40, and no - or _ first`,
  );
}

/** The name in the path of a control socket; '' if it is not one of the registry. */
export function nameOf(path: string): string {
  return socketPattern.exec(basename(path))?.[2] ?? '';
}

/**
 * This user's control sockets, sorted by name, including those of dead processes. Ignores all other
 * files of the folder. Rejects with a FarbusError if the folder cannot be used.
 */
export async function registered(env: NodeJS.ProcessEnv): Promise<Registered[]> {
  const folder = findControlFolder(env);
  if (folder === undefined) return [];
  const names = await readdir(folder).catch((error: unknown) => {
    throw new FarbusError(`cannot look into ${folder}: ${messageOf(error)}`, { cause: error });
  });
  const found = names.flatMap((file): Registered[] => {
    const [, kind, name, pid] = socketPattern.exec(file) ?? [];
    return kind ? [{ kind: kind as ProcessKind, name: name!, pid: Number(pid), path: join(folder, file) }] : [];
  });
  return found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.pid - b.pid)).slice(0, mostSockets);
}

/** Like {@link registered}, without dead processes. */
export async function running(env: NodeJS.ProcessEnv): Promise<Registered[]> {
  const all = await registered(env);
  const alive = await Promise.all(all.map(async ({ path }) => (await isOwnSocket(path)) && !(await isDead(path))));
  return all.filter((_, index) => alive[index]);
}

/** True for a socket of this user. A link or another user's socket is never connected to. */
async function isOwnSocket(path: string): Promise<boolean> {
  const stat = await lstat(path).catch(() => undefined);
  return stat?.isSocket() === true && (process.getuid === undefined || stat.uid === process.getuid());
}

/** A process to register. */
export interface Registering {
  readonly kind: ProcessKind;
  /** Undefined: `usual`, or `usual` with the next free number. */
  readonly name: string | undefined;
  readonly usual: string;
  readonly env: NodeJS.ProcessEnv;
  /** Ends the process in order, as SIGTERM does. A later call has no further effect. */
  readonly end: () => void;
}

/** Facts about a process for `farbus ps` that it finds out during its start. */
export type Facts = Pick<Description, 'state' | 'engine' | 'uses' | 'reach' | 'ways' | 'computers'>;

/** The entry of this process. */
export interface Registration {
  readonly name: string;
  readonly path: string;
  /** The process is ready: from now on `handler` answers requests, and `facts` describes it. */
  serve(handler: ControlHandler, facts: () => Facts): void;
  close(): Promise<void>;
}

/**
 * Registers this process under a name, before it opens anything. Until {@link Registration.serve}
 * it only describes itself and can be stopped. Rejects with a FarbusError if the name is taken or
 * the folder cannot be used.
 */
export async function register({ kind, name, usual, env, end }: Registering, early: Facts): Promise<Registration> {
  if (name !== undefined) checkName(name);
  let facts = (): Facts => early;
  let handler: ControlHandler | undefined;
  for (let attempt = 1; ; attempt++) {
    const claimed = name ?? freeName(usual, await running(env));
    const answer: ControlHandler = async (request, work) => {
      const own = { kind, name: claimed, pid: process.pid, since: new Date(performance.timeOrigin).toISOString() };
      if (request.command === 'describe') return { ...own, ...shown(facts()) } satisfies Description;
      if (request.command === 'stop') {
        // After the answer.
        setImmediate(end);
        return { pid: process.pid };
      }
      if (handler) return handler(request, work);
      throw new FarbusError(`${claimed} is starting: try again when farbus ps shows that it runs`);
    };
    const socket = await serveControl(`${kind}-${claimed}.${process.pid}`, answer, env);
    const other = await rival(claimed, socket.path, env);
    if (!other) {
      const serve = (to: ControlHandler, describe: () => Facts): void => {
        handler = to;
        facts = describe;
      };
      return { name: claimed, path: socket.path, serve, close: () => socket.close() };
    }
    await socket.close();
    if (attempt === attempts || (name !== undefined && other.older)) {
      throw new FarbusError(
        `there is a ${kindWords[other.kind]} called ${claimed} already (process ${other.pid}): choose another name, or end it by farbus stop ${claimed}`,
        { kind: 'taken' },
      );
    }
    await sleep(10 + Math.random() * 50);
  }
}

/** Facts without the secrets of sources. */
function shown({ uses, ways, computers, ...facts }: Facts): Facts {
  const parts = computers?.map((one) => ({
    ...one,
    ...(one.detail !== undefined && { detail: withoutSecrets(one.detail) }),
    uses: one.uses.map(withoutSecrets),
  }));
  const known = ways && {
    ways: ways.map(({ source, route, ...way }) => ({
      source: withoutSecrets(source),
      ...(route !== undefined && { route: withoutSecrets(route) }),
      ...way,
    })),
  };
  return { ...facts, uses: uses.map(withoutSecrets), ...known, ...(parts && { computers: parts }) };
}

/** `usual`, or the first of `usual-2`, `usual-3` and so on that is free. */
function freeName(usual: string, taken: readonly Registered[]): string {
  const names = new Set(taken.map(({ name }) => name));
  for (let number = 1; ; number++) {
    const name = number === 1 ? usual : `${usual}-${number}`;
    if (!names.has(name)) return name;
  }
}

/** Another living process of that name which is older than the socket `own`, or of the same age. */
async function rival(
  name: string,
  own: string,
  env: NodeJS.ProcessEnv,
): Promise<(Registered & { readonly older: boolean }) | undefined> {
  const { mtimeNs: mine } = await lstat(own, { bigint: true });
  for (const one of await registered(env)) {
    if (one.name !== name || one.path === own || !(await isOwnSocket(one.path))) continue;
    const stat = await lstat(one.path, { bigint: true }).catch(() => undefined);
    if (!stat || stat.mtimeNs > mine) continue;
    if (await isDead(one.path)) {
      // It may have bound the socket and not listen yet: then try again.
      if (isRunning(one.pid) && Date.now() - Number(stat.mtimeMs) < youngMs) return { ...one, older: false };
      continue;
    }
    return { ...one, older: stat.mtimeNs < mine };
  }
  return undefined;
}
