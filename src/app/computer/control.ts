/**
 * The requests to a running computer (app/control): its screen, keyboard, serial console and the
 * media of its removable drives. `farbus run` answers them; `farbus screenshot`, `type`, `console`
 * and `media` send them.
 */
import type { ConsoleFeed } from '../../base/console-feed.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { Computer } from '../../computer/computer.js';
import type { ScreenConsole } from '../../computer/screen-console.js';
import type { Work } from '../../base/work.js';
import { askControl } from '../control/client.js';
import { consoleStream } from '../control/console.js';
import { findOfKind } from '../control/find.js';
import type { ControlHandler, ControlRequest } from '../control/server.js';
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

/** The parts of a computer that requests use. */
export interface Controlled {
  readonly computer: Computer;
  readonly media: MediaChanger;
  /** Its serial console. */
  readonly console: ConsoleFeed;
  /**
   * False if the kernel runs without firmware: it finds no screen and no keyboard, so keys would be
   * lost and are refused.
   */
  readonly usesScreen: boolean;
}

/**
 * Handles control commands: `abilities`, a list of words of docs/web.md ("Computers"); `screenshot
 * {picture}`, `type {text}`, `console`, a stream, `eject {drive, force}` and `insert {drive,
 * source}`.
 */
export function computerHandler(parts: Controlled): ControlHandler {
  return (request, work) => answer(request, parts, work);
}

async function answer(request: ControlRequest, parts: Controlled, work: Work): Promise<unknown> {
  const { computer, media, console, usesScreen } = parts;
  const drive = typeof request['drive'] === 'number' ? request['drive'] : undefined;
  switch (request.command) {
    case 'abilities':
      return [...(computer.screen ? ['screen'] : []), ...(computer.screen && usesScreen ? ['keys'] : []), 'media'];
    case 'screenshot': {
      if (!computer.screen) throw noScreen('has no screen');
      const picture = computer.screen.look();
      const text = textOf(picture);
      if (request['picture'] === false) return { text } satisfies Screenshot;
      return { png: Buffer.from(encodePng(pixelsOf(picture))).toString('base64'), text } satisfies Screenshot;
    }
    case 'type':
      if (!usesScreen || !computer.screen) throw noScreen('takes no keys');
      await typed(computer.screen, String(request['text']), work.signal);
      return {};
    case 'console':
      return consoleStream(console, (bytes) => void computer.sendSerial(bytes));
    case 'eject':
      return { done: await media.eject(drive, request['force'] === true) };
    case 'insert':
      work.waitsFor(() => String(request['source']));
      return { done: await media.insert(drive, String(request['source']), work.signal) };
    default:
      throw new FarbusError(`there is no command ${JSON.stringify(request.command).slice(0, 100)}`);
  }
}

function noScreen(what: string): FarbusError {
  return new FarbusError(
    `this computer ${what}: its console is the serial port: use farbus console, or start it with --bios`,
  );
}

async function typed(screen: ScreenConsole, text: string, signal: AbortSignal): Promise<void> {
  try {
    for (const key of splitKeys(text)) {
      signal.throwIfAborted();
      await screen.type(key);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FarbusError(`${messageOf(error)}: see farbus type --help`);
  }
}

/** Sends a request to a computer of `farbus run`. Rejects with a FarbusError if there is none. */
export async function askComputer(
  name: string,
  request: ControlRequest,
  { env, onWorking }: { readonly env: NodeJS.ProcessEnv; readonly onWorking: OnWorking },
): Promise<unknown> {
  const { path } = await findOfKind(name, 'computer', 'this command is for computers of farbus run', env);
  return askControl(path, request, { onWorking });
}
