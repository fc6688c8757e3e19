/** The computers in this tab. They run in workers until the tab closes or they are switched off. */
import type { TabDrive } from '../../../browser/drives.js';
import type { FlowReport } from '../../../browser/flow-report.js';
import type { TabSystem } from '../../../browser/machine-options.js';
import { TabComputer, type TabState } from '../../../browser/tab-computer.js';
import { messageOf } from '../../../base/errors.js';
import { Store } from '../base/store.js';
import { ConsoleOutput, type Console } from '../computers/console.js';
import { addressOf, socketAddressOf } from './request.js';
import { TabFlow } from './tab-flow.js';
import { currentToken } from './token.js';

/** Ports for disks of a computer in a tab. */
export const tabPorts = 4;

/** A drive as the user has chosen it. */
export interface ChosenDrive {
  /** The name of the export. */
  readonly name: string;
  /**
   * Where writes go: to the far disk, to an overlay in this browser, or nowhere, because the drive
   * is read-only.
   */
  readonly writes: 'far' | 'overlay' | 'none';
  /** The name of the overlay. */
  readonly overlay: string;
}

/** The drive at a port, and the state of its connection. */
export interface PortState {
  readonly drive: ChosenDrive;
  /** Undefined while all is well. */
  readonly trouble: string | undefined;
  /** A sentence if the cache of the drive does not work. */
  readonly cacheTrouble?: string | undefined;
}

export interface TabEntry {
  readonly id: number;
  readonly name: string;
  readonly system: TabSystem;
  /** It was started from a snapshot that the user had saved. */
  readonly continued: boolean;
  readonly state: TabState;
  /** A line about the state, or ''. */
  readonly detail: string;
  readonly ports: readonly (PortState | undefined)[];
  readonly console: Console;
  /** Undefined until it has been started. */
  readonly computer: TabComputer | undefined;
}

export const tabComputers = new Store<readonly TabEntry[]>([]);

let lastId = 0;
/** Number of places on the page that show the flow. */
let watchers = 0;

function change(id: number, changed: Partial<TabEntry>): void {
  tabComputers.update((all) => all.map((one) => (one.id === id ? { ...one, ...changed } : one)));
}

function find(id: number): TabEntry | undefined {
  return tabComputers.value.find((one) => one.id === id);
}

function setPort(id: number, port: number, state: PortState | undefined): void {
  const ports = find(id)?.ports;
  if (ports) change(id, { ports: ports.map((one, index) => (index === port ? state : one)) });
}

/** The address and the rest of a drive, for the computer, whose name the server shows. */
export function tabDrive({ name, writes, overlay }: ChosenDrive, computer: string): TabDrive {
  const url = socketAddressOf(`nbd/${encodeURIComponent(name)}`);
  url.searchParams.set('client', computer);
  return {
    url: url.href,
    token: currentToken(),
    readOnly: writes === 'none',
    cache: writes !== 'far',
    ...(writes === 'overlay' && { overlay }),
  };
}

export interface StartOptions {
  readonly name: string;
  readonly system: TabSystem;
  readonly drives: readonly ChosenDrive[];
  /** False: Debian boots instead of continuing from the server's snapshot. */
  readonly snapshot: boolean;
  /** A snapshot that the user has saved, taken with these drives. */
  readonly saved: Uint8Array | undefined;
}

/** Starts a computer. It is in the list at once; its entry says how the start went. */
export function startInTab({ name, system, drives, snapshot, saved }: StartOptions): void {
  const id = ++lastId;
  const output = new ConsoleOutput();
  const flow = new TabFlow(name, drives.length === 1 ? drives[0]!.name : undefined);
  const own: Console = {
    watch: (receive) => output.watch(receive),
    send: (bytes) => void find(id)?.computer?.sendSerial(bytes),
  };
  const ports = Array.from({ length: tabPorts }, (_, port): PortState | undefined => {
    const drive = drives[port];
    return drive && { drive, trouble: undefined };
  });
  const continued = saved !== undefined;
  const entry = { id, name, system, continued, state: 'starting', detail: '', ports, console: own } as const;
  tabComputers.update((all) => [...all, { ...entry, computer: undefined }]);
  TabComputer.start({
    guest: addressOf('guest/system.json').href,
    token: currentToken(),
    system,
    drives: drives.map((drive) => tabDrive(drive, name)),
    snapshot,
    ...(saved && { saved }),
    onSerial: (bytes) => output.add(bytes),
    onState: (state, detail) => change(id, { state, detail }),
    onDrive: (port, state, detail) => {
      const now = find(id)?.ports[port];
      if (now) setPort(id, port, { ...now, trouble: state === 'connected' ? undefined : detail || state });
    },
    onCache: (port, cacheTrouble) => {
      const now = find(id)?.ports[port];
      if (now) setPort(id, port, { ...now, cacheTrouble });
    },
    onFlow: (report: FlowReport) => flow.take(report),
  }).then(
    (computer) => {
      change(id, { computer });
      if (watchers > 0) void computer.watchFlow(true);
    },
    (error: unknown) => change(id, { state: 'failed', detail: messageOf(error) }),
  );
}

/** Rejects with the error of the computer. */
export async function attachInTab(id: number, port: number, drive: ChosenDrive): Promise<void> {
  // Set before, because the drive can report the state of its cache while it is opened.
  setPort(id, port, { drive, trouble: undefined });
  try {
    const { name, computer } = find(id)!;
    await computer!.attach(port, tabDrive(drive, name));
  } catch (error) {
    setPort(id, port, undefined);
    throw error;
  }
}

export async function detachInTab(id: number, port: number): Promise<void> {
  await find(id)!.computer!.detach(port);
  setPort(id, port, undefined);
}

/** Switches a computer off, if it runs, and takes it out of the list. */
export async function removeFromTab(id: number): Promise<void> {
  try {
    await find(id)?.computer?.stop();
  } finally {
    tabComputers.update((all) => all.filter((one) => one.id !== id));
  }
}

/** The computers report their commands until the returned function is called. */
export function watchTabFlow(): () => void {
  const set = (on: boolean): void => {
    for (const { computer, state } of tabComputers.value) {
      if (state === 'running' || state === 'paused') computer?.watchFlow(on).catch(() => undefined);
    }
  };
  if (watchers++ === 0) set(true);
  return () => {
    if (--watchers === 0) set(false);
  };
}

/** A computer in a tab ends with it: the browser asks the user first. */
addEventListener('beforeunload', (event) => {
  if (tabComputers.value.some(({ state }) => state === 'running' || state === 'paused')) event.preventDefault();
});
