/**
 * The routes of computers: those of `farbus run` and of running sites of this user, by their
 * control sockets (app/control). All of them need the console token.
 *
 * No route opens a path of this computer: media are inserted by the name of an export.
 */
import type { Socket } from 'node:net';
import { onAbort } from '../../base/abort.js';
import { FarbusError } from '../../base/errors.js';
import { WebFailure, type Call, type MessageSocket, type Route } from '../../web/server/routes.js';
import { isOver } from '../../site/computer.js';
import { isComputer, requestTo, type DriveState, type Screenshot } from '../computer/control.js';
import { moveOf } from '../computer/mouse.js';
import { askControl, openControl } from '../control/client.js';
import { describeAll, findNamed, type Named } from '../control/find.js';
import { running } from '../control/registry.js';
import type { ControlRequest } from '../control/server.js';

/** Longest text of keys in a request, in characters. */
const maxKeys = 4096;

/** If more input waits for a console that takes none, further input is dropped, in bytes. */
const maxPending = 1 << 20;

/** The address of an export of this server for a computer here; undefined if there is none. */
export type ExportAddress = (name: string) => string | undefined;

/** Time for a computer to tell its abilities, in ms. */
const abilitiesMs = 2000;

const path = (action: string): string => `/api/computers/:name/${action}`;

export function computerRoutes(env: NodeJS.ProcessEnv, addressOf: ExportAddress): Route[] {
  const ask = async ({ name, signal }: Call, request: ControlRequest): Promise<unknown> => {
    const named = await found(name, env);
    return askControl(named.process.path, requestTo(named, request), { signal });
  };
  const act = (action: string): Route => ({
    kind: 'post',
    path: path(action),
    right: 'control',
    answer: async (call) => ({ json: await ask(call, { command: action }) }),
  });
  const startAnew = (action: string, command: string): Route => ({
    kind: 'post',
    path: path(action),
    right: 'control',
    answer: async ({ name, signal }) => {
      const { process, computer } = await found(name, env);
      if (computer === undefined) {
        throw new WebFailure(409, 'only computers of sites start anew from here: end it, and run farbus run again');
      }
      await askControl(process.path, { command, computer }, { signal });
      return { json: {} };
    },
  });
  const put = (action: string): Route => ({
    kind: 'post',
    path: path(action),
    right: 'control',
    answer: async (call, { drive, export: name }) => {
      const source = typeof name === 'string' ? addressOf(name) : undefined;
      if (source === undefined) throw new WebFailure(404, 'export: expected the name of an export of this server');
      return { json: await ask(call, { command: action, drive: driveOf(drive), source }) };
    },
  });
  return [
    {
      kind: 'get',
      path: '/api/computers',
      right: 'control',
      answer: async () => ({ json: await computers(env) }),
    },
    {
      kind: 'messages',
      path: path('console'),
      protocol: 'farbus.console',
      right: 'control',
      open: async ({ name, signal }) => {
        const { process, computer } = await found(name, env);
        const request = { command: 'console', ...(computer !== undefined && { computer }) };
        const { socket, rest } = await openControl(process.path, request, { signal });
        // The client may go before its WebSocket is open.
        if (signal.aborted) socket.destroy();
        else onAbort(signal, () => socket.destroy());
        return (messages) => join(messages, socket, rest);
      },
    },
    {
      kind: 'get',
      path: path('screen'),
      right: 'control',
      answer: async (call) => {
        const { png } = (await ask(call, { command: 'screenshot', picture: true })) as Screenshot;
        return { type: 'image/png', bytes: Buffer.from(png ?? '', 'base64') };
      },
    },
    {
      kind: 'get',
      path: path('text'),
      right: 'control',
      answer: async (call) => {
        const { text } = (await ask(call, { command: 'screenshot', picture: false })) as Screenshot;
        return { json: { text } };
      },
    },
    {
      kind: 'post',
      path: path('keys'),
      right: 'control',
      answer: async (call, { text }) => {
        if (typeof text !== 'string' || text.length > maxKeys) {
          throw new WebFailure(400, `text: expected the keys, at most ${maxKeys} characters`);
        }
        return { json: await ask(call, { command: 'type', text }) };
      },
    },
    {
      kind: 'post',
      path: path('eject'),
      right: 'control',
      answer: async (call, { drive, force }) => {
        return { json: await ask(call, { command: 'eject', drive: driveOf(drive), force: force === true }) };
      },
    },
    put('insert'),
    put('attach'),
    {
      kind: 'post',
      path: path('detach'),
      right: 'control',
      answer: async (call, { drive }) => ({ json: await ask(call, { command: 'detach', drive: driveOf(drive) }) }),
    },
    ...['pause', 'resume', 'snapshot'].map(act),
    startAnew('start', 'start-computer'),
    startAnew('reset', 'restart-computer'),
    {
      kind: 'post',
      path: path('stop'),
      right: 'control',
      answer: async ({ name, signal }) => {
        const { process, computer } = await found(name, env);
        const request = computer === undefined ? { command: 'stop' } : { command: 'stop-computer', computer };
        await askControl(process.path, request, { signal });
        return { json: {} };
      },
    },
    {
      kind: 'post',
      path: path('mouse'),
      right: 'control',
      answer: async (call, body) => {
        const move = moveOf(body);
        if (!move) throw new WebFailure(400, 'x, y, wheel, buttons: expected a movement of the mouse');
        return { json: await ask(call, { command: 'mouse', ...move }) };
      },
    },
  ];
}

/** A computer of this user by its name. Other processes are none. */
async function found(name: string, env: NodeJS.ProcessEnv): Promise<Named> {
  const named = await findNamed(name, env).catch((error: unknown) => {
    throw error instanceof FarbusError ? new WebFailure(404, error.message) : error;
  });
  if (isComputer(named)) return named;
  throw new WebFailure(404, `${name} is no computer`);
}

async function computers(env: NodeJS.ProcessEnv): Promise<unknown[]> {
  const { answers } = await describeAll(await running(env));
  const all = await Promise.all(
    answers.map(async ({ process, description }) => {
      const { kind, name, since, state, uses, reach, computers: parts = [] } = description;
      if (kind === 'computer') {
        const own = await abilities({ process, computer: undefined });
        return [{ name, state, since, uses, reach, drives: own.drives, can: ['console', ...own.can, 'stop'] }];
      }
      return Promise.all(
        parts.map(async (one) => {
          const is = { ...one, name: `${name}/${one.name}`, site: name, since };
          if (isOver(one.state)) return { ...is, drives: [], can: ['start'] };
          const { can, drives } = await abilities({ process, computer: one.name });
          return { ...is, drives, can: ['console', ...can, 'stop', 'reset'] };
        }),
      );
    }),
  );
  return all.flat();
}

interface Abilities {
  readonly can: readonly string[];
  readonly drives: readonly DriveState[];
}

/** The abilities of a computer. Those of an older version, and those that start, do not say. */
async function abilities(of: Named): Promise<Abilities> {
  const ask = async (command: string): Promise<readonly unknown[]> => {
    const asked = askControl(of.process.path, requestTo(of, { command }), { limitMs: abilitiesMs, absolute: true });
    const answer = await asked.catch(() => []);
    return Array.isArray(answer) ? answer : [];
  };
  const [can, drives] = await Promise.all([ask('abilities'), ask('drives')]);
  return { can: can.filter((one) => typeof one === 'string'), drives: drives as DriveState[] };
}

/** Joins a client's messages with a console. */
function join(messages: MessageSocket, console: Socket, rest: Uint8Array): void {
  const output = (bytes: Uint8Array): void => void messages.send(bytes);
  messages.attach({
    message: (bytes) => {
      if (console.writableLength < maxPending) console.write(bytes);
    },
    closed: () => console.destroy(),
  });
  if (rest.length > 0) output(rest);
  console.on('data', output);
  console.on('close', () => messages.close(1000, 'the console has ended'));
  console.resume();
}

function driveOf(drive: unknown): number | undefined {
  if (drive === undefined) return undefined;
  if (typeof drive === 'number' && Number.isInteger(drive) && drive >= 0 && drive < 256) return drive;
  throw new WebFailure(400, 'drive: expected the number of a drive');
}
