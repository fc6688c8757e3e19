/**
 * The requests to a running computer (app/control): its screen, keyboard and serial console, its
 * drives, pause and snapshot. `farbus run` and the computers of sites answer them; `farbus
 * screenshot`, `type`, `console`, `media`, `drive`, `pause`, `resume` and `snapshot` send them, and
 * the web server does (app/web).
 */
import type { ConsoleFeed } from '../../base/console-feed.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { Computer } from '../../computer/computer.js';
import type { DriveKind } from '../../computer/drives.js';
import type { ScreenConsole } from '../../computer/screen-console.js';
import type { Work } from '../../base/work.js';
import { askControl } from '../control/client.js';
import { consoleStream } from '../control/console.js';
import { findNamed, wrongKind, type Named } from '../control/find.js';
import type { ControlHandler, ControlRequest } from '../control/server.js';
import type { OnWorking } from '../control/working.js';
import { pixelsOf, textOf, type Picture } from '../../machine/screen.js';
import { moveOf } from './mouse.js';
import { encodePng } from './png.js';

/** Exchanges the media and disks of a computer's drives. Rejects with a FarbusError. */
export interface MediaChanger {
  readonly drives: readonly DriveState[];
  eject(drive: number | undefined, force: boolean): Promise<string>;
  /** Inserts a medium, unless `signal` is aborted first. */
  insert(drive: number | undefined, source: string, signal: AbortSignal): Promise<string>;
  /** Attaches a disk to a port that has none, unless `signal` is aborted first. */
  attach(drive: number | undefined, source: string, signal: AbortSignal): Promise<string>;
  /** Takes the disk off a port, even while the guest uses it. */
  detach(drive: number | undefined): Promise<string>;
}

/** A drive of a running computer. */
export interface DriveState {
  readonly drive: number;
  readonly kind: DriveKind;
  /** Its medium or disk; undefined if there is none. */
  readonly source?: string;
  /** The change that is possible now; undefined if the drive stays as it is. */
  readonly can?: 'eject' | 'insert' | 'attach' | 'detach';
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
  /**
   * Saves a snapshot to `file`, by default to the one that belongs to the computer's name, and
   * returns its path, unless `signal` aborts first. Undefined if there is no place for it.
   */
  readonly saveSnapshot?: ((signal: AbortSignal, file?: string) => Promise<string>) | undefined;
  /**
   * False if the kernel runs without firmware: it finds no screen and no keyboard, so keys would be
   * lost and are refused.
   */
  readonly usesScreen: boolean;
}

/** Handles the commands of {@link answerComputer}, and `console`, a stream. */
export function computerHandler(parts: Controlled, console: ConsoleFeed): ControlHandler {
  return async (request, work) => {
    if (request.command !== 'console') return answerComputer(request, parts, work);
    return consoleStream(console, (bytes) => void parts.computer.sendSerial(bytes), request['alone'] === true);
  };
}

/**
 * Handles control commands: `abilities`, a list of words of docs/web.md ("Computers"); `drives`;
 * `screenshot {picture}`, `type {text}`, `mouse {x, y, wheel, buttons}`, `pause`, `resume`,
 * `snapshot {file}`, `eject {drive, force}`, `insert {drive, source}`, `attach {drive, source}` and
 * `detach {drive}`.
 */
export async function answerComputer(request: ControlRequest, parts: Controlled, work: Work): Promise<unknown> {
  const { computer, media, usesScreen } = parts;
  const drive = typeof request['drive'] === 'number' ? request['drive'] : undefined;
  switch (request.command) {
    case 'abilities':
      return abilitiesOf(parts);
    case 'drives':
      return media.drives;
    case 'pause':
      await computer.pause();
      return {};
    case 'resume':
      await computer.resume();
      return {};
    case 'snapshot': {
      if (!parts.saveSnapshot) throw new FarbusError('there is no place for snapshots of this computer');
      work.waitsFor(() => 'the snapshot to be saved');
      const { file } = request;
      const path = await parts.saveSnapshot(work.signal, typeof file === 'string' ? file : undefined);
      return { done: `saved to ${path}` };
    }
    case 'screenshot': {
      const picture = shownPicture(parts);
      if (!picture) throw noScreen('has no screen');
      const text = textOf(picture);
      if (request['picture'] === false) return { text } satisfies Screenshot;
      return { png: Buffer.from(encodePng(pixelsOf(picture))).toString('base64'), text } satisfies Screenshot;
    }
    case 'type':
      if (!usesScreen || !computer.screen) throw noScreen('takes no keys');
      if (typeof request['text'] !== 'string') throw new FarbusError('text: expected the keys');
      await typed(computer.screen, request['text'], work.signal);
      return {};
    case 'mouse': {
      if (!usesScreen || !computer.screen?.hasMouse) throw noScreen('has no mouse');
      const move = moveOf(request);
      if (!move) throw new FarbusError('x, y, wheel, buttons: expected a movement of the mouse');
      computer.screen.sendMouse(move);
      return {};
    }
    case 'eject':
      return { done: await media.eject(drive, request['force'] === true) };
    case 'insert':
      work.waitsFor(() => String(request['source']));
      return { done: await media.insert(drive, String(request['source']), work.signal) };
    case 'attach':
      work.waitsFor(() => String(request['source']));
      return { done: await media.attach(drive, String(request['source']), work.signal) };
    case 'detach':
      return { done: await media.detach(drive) };
    default:
      throw new FarbusError(`there is no command ${JSON.stringify(request.command).slice(0, 100)}`);
  }
}

/**
 * The content of the screen; undefined if there is none. A kernel without firmware leaves the
 * adapter of the board in its blank text mode, unless a driver of the guest finds it.
 */
function shownPicture({ computer, usesScreen }: Controlled): Picture | undefined {
  const picture = computer.screen?.look();
  if (!picture || usesScreen || picture.kind === 'pixels') return picture;
  return textOf(picture).every((line) => line.trim() === '') ? undefined : picture;
}

function abilitiesOf(parts: Controlled): string[] {
  const { computer, media, saveSnapshot, usesScreen } = parts;
  const { drives } = media;
  const can = {
    screen: computer.screen !== undefined && (usesScreen || shownPicture(parts) !== undefined),
    keys: computer.screen !== undefined && usesScreen,
    mouse: computer.screen?.hasMouse === true && usesScreen,
    pause: true,
    snapshot: computer.canSave && saveSnapshot !== undefined,
    media: drives.some(({ kind }) => kind !== 'disk'),
    attach: drives.some(({ kind, can: change }) => kind === 'disk' && change !== undefined),
  };
  return Object.entries(can).flatMap(([word, is]) => (is ? [word] : []));
}

function noScreen(what: string): FarbusError {
  return new FarbusError(
    `this computer ${what}: its console is the serial port: use farbus console, or start it with --bios`,
  );
}

async function typed(screen: ScreenConsole, text: string, signal: AbortSignal): Promise<void> {
  try {
    await screen.type(text, signal);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FarbusError(`${messageOf(error)}: see farbus type --help`);
  }
}

/** Sends a request to a computer of `farbus run` or of a site. Rejects with a FarbusError. */
export async function askComputer(
  name: string,
  request: ControlRequest,
  { env, onWorking }: { readonly env: NodeJS.ProcessEnv; readonly onWorking: OnWorking },
): Promise<unknown> {
  const found = await findNamed(name, env);
  if (!isComputer(found)) throw wrongKind(found, 'this command is for computers');
  return askControl(found.process.path, requestTo(found, request), { onWorking });
}

/** True for a computer of `farbus run`, and for one of a site. */
export function isComputer({ process, computer }: Named): boolean {
  return process.kind === 'computer' || computer !== undefined;
}

/** The request as the process of the computer takes it: a site passes it on. */
export function requestTo({ computer }: Named, request: ControlRequest): ControlRequest {
  return computer === undefined ? request : { command: 'computer', computer, request };
}
