/**
 * The control socket of a running computer (app/control): its screen, its keyboard, and
 * the media of its removable drives. `farbus run` opens it; `farbus screenshot`, `type` and
 * `media` use it.
 */
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { isDead } from '../../base/owned.node.js';
import type { Computer } from '../../computer/computer.js';
import type { Work } from '../../base/work.js';
import { askControl, controlSockets } from '../control/client.js';
import { serveControl, type ControlRequest } from '../control/server.js';
import type { OnWorking } from '../control/working.js';
import { splitKeys } from '../../machine/keys.js';
import { pixelsOf, textOf } from '../../machine/screen.js';
import { encodePng } from './png.js';

/** Exchanges the media of a computer's drives. Rejects with a FarbusError. */
export interface MediaChanger {
  eject(drive: number | undefined, force: boolean): Promise<string>;
  /** Inserts a medium, unless `signal` is aborted first. */
  insert(drive: number | undefined, source: string, signal: AbortSignal): Promise<string>;
}

/**
 * The reply to `screenshot`: a PNG file in base64 if a picture was requested, and the lines of a
 * text screen.
 */
export interface Screenshot {
  readonly png?: string;
  readonly text: readonly string[];
}

const prefix = 'computer-';

/** @throws FarbusError if the name cannot be part of a socket's file name */
export function checkName(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/.test(name)) {
    throw usageError(`${JSON.stringify(name)} is no name of a computer: give letters, digits, - and _, at most 40`);
  }
  return name;
}

/**
 * Opens the control socket of a computer and returns a function that closes it. Rejects with a
 * FarbusError.
 * @param hasScreen False if the kernel runs without firmware: it finds no screen and no keyboard,
 * so keys would be lost and are refused.
 */
export async function openComputerControl(
  name: string,
  computer: Computer,
  media: MediaChanger,
  env: NodeJS.ProcessEnv,
  { hasScreen = true } = {},
): Promise<() => Promise<void>> {
  const socket = await serveControl(
    `${prefix}${name}.${process.pid}`,
    (request, work) => answer(request, computer, media, work, hasScreen),
    env,
  );
  return () => socket.close();
}

async function answer(
  request: ControlRequest,
  computer: Computer,
  media: MediaChanger,
  work: Work,
  hasScreen: boolean,
): Promise<unknown> {
  const drive = typeof request['drive'] === 'number' ? request['drive'] : undefined;
  switch (request.command) {
    case 'screenshot': {
      const picture = computer.screen.look();
      const text = textOf(picture);
      if (request['picture'] === false) return { text } satisfies Screenshot;
      return { png: Buffer.from(encodePng(pixelsOf(picture))).toString('base64'), text } satisfies Screenshot;
    }
    case 'type':
      if (!hasScreen) {
        throw new FarbusError(
          'this computer takes no keys: its console is the serial port, in the terminal of farbus run; start it with --bios',
        );
      }
      await typed(computer, String(request['text']), work.signal);
      return {};
    case 'eject':
      return { done: await media.eject(drive, request['force'] === true) };
    case 'insert':
      work.waitsFor(() => String(request['source']));
      return { done: await media.insert(drive, String(request['source']), work.signal) };
    default:
      throw new FarbusError(`there is no command ${JSON.stringify(request.command).slice(0, 100)}`);
  }
}

async function typed(computer: Computer, text: string, signal: AbortSignal): Promise<void> {
  try {
    for (const key of splitKeys(text)) {
      signal.throwIfAborted();
      await computer.screen.type(key);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FarbusError(`${messageOf(error)}: see farbus type --help`);
  }
}

/**
 * Sends a request to this user's computer `name`. Rejects with a FarbusError if no computer or
 * several have that name.
 */
export async function askComputer(
  name: string,
  request: ControlRequest,
  { env, onWorking }: { readonly env: NodeJS.ProcessEnv; readonly onWorking: OnWorking },
): Promise<unknown> {
  const paths = await controlSockets(`${prefix}${checkName(name)}.`, env);
  // A killed process leaves its socket behind.
  const dead = await Promise.all(paths.map(isDead));
  const [path, more] = paths.filter((_, index) => !dead[index]);
  if (path === undefined) {
    throw new FarbusError(`no computer ${JSON.stringify(name)} runs here: start one by farbus run --name ${name}`);
  }
  if (more !== undefined) {
    throw new FarbusError(`several computers are called ${JSON.stringify(name)}: give them names by farbus run --name`);
  }
  return askControl(path, request, { onWorking });
}
