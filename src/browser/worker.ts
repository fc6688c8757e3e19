/**
 * The worker in which a tab's computer runs, so that the page stays responsive. It answers the
 * calls of TabComputer (tab-computer.ts) and tells it of events.
 */
import { FarbusError } from '../base/errors.js';
import type { MouseMove, Picture } from '../machine/screen.js';
import { FlowWatch } from './flow.js';
import type { TabDrive } from './drives.js';
import { Machine, type MachineEvents } from './machine.js';
import type { MachineOptions } from './machine-options.js';
import { Messages, Moved, type MessageEnd } from './messages.js';
import { PictureChanges } from './picture-changes.js';

let machine: Machine | undefined;
let flow: FlowWatch | undefined;
const changes = new PictureChanges();

const events: MachineEvents = {
  log: { log: (level, message) => messages.tell('log', { level, message }) },
  serial: (bytes) => messages.tell('serial', bytes, bytes.buffer as ArrayBuffer),
  ended: (why) => messages.tell('ended', why),
  drive: (port, state, detail) => messages.tell('drive', { port, state, detail }),
  cache: (port, trouble) => messages.tell('cache', { port, trouble }),
};

/** The methods that the page calls. */
const methods = {
  start: async (options: MachineOptions): Promise<void> => {
    if (machine) throw new FarbusError('this computer has been started already');
    machine = await Machine.start(options, events);
  },
  stop: async (): Promise<void> => {
    flow?.stop();
    await machine?.stop();
    machine = undefined;
  },
  reset: async (): Promise<void> => {
    const before = running();
    machine = undefined;
    flow?.stop();
    flow = undefined;
    machine = await before.reset();
  },
  pause: (): void => running().computer.hold(),
  resume: (): void => running().computer.release(),
  sendSerial: (bytes: Uint8Array): Promise<void> => running().computer.sendSerial(bytes),
  run: (command: string, timeoutMs: number) => running().computer.console.run(command, timeoutMs),
  look: (): Moved | undefined => {
    const picture = running().computer.screen?.look();
    return picture && changes.isNew(picture) ? new Moved(picture, ...memoryOf(picture)) : undefined;
  },
  type: (keys: string): Promise<void> | undefined => running().computer.screen?.type(keys),
  sendKeys: (codes: readonly number[]): void => running().computer.screen?.sendCodes(codes),
  sendMouse: (move: MouseMove): void => running().computer.screen?.sendMouse(move),
  attach: (port: number, drive: TabDrive): Promise<void> => running().attach(port, drive),
  detach: (port: number): Promise<void> => running().detach(port),
  save: async (): Promise<Moved> => {
    const bytes = await running().save();
    return new Moved(bytes, bytes.buffer as ArrayBuffer);
  },
  counts: () => running().computer.counts,
  watchFlow: (on: boolean): void => {
    flow?.stop();
    flow = on ? new FlowWatch(running(), (report) => messages.tell('flow', report)) : undefined;
  },
};

function running(): Machine {
  if (machine) return machine;
  throw new FarbusError('this computer is not running: start it first');
}

/** The memory that is moved to the page with a picture. */
function memoryOf(picture: Picture): ArrayBuffer[] {
  if (picture.kind === 'pixels') return [picture.rgb.buffer as ArrayBuffer];
  const { characters, foreground, background } = picture;
  return [characters, foreground, background].map(({ buffer }) => buffer as ArrayBuffer);
}

const messages: Messages = new Messages(
  globalThis as unknown as MessageEnd,
  (method, args) => {
    const found = (methods as Record<string, ((...args: never[]) => unknown) | undefined>)[method];
    if (!found) throw new FarbusError(`this computer has no method ${method}`);
    return found(...(args as never[]));
  },
  () => undefined,
);
