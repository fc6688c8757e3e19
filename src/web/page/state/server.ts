/**
 * The link to the server: its exports with their rates over the last minutes, and the commands that
 * it carries out. The link comes back by itself.
 */
import { Store } from '../base/store.js';
import { addServed } from './commands.js';
import type { ClientInfo, CommandsEvent, ExportRates, ServedCommand, ServerInfo, StateEvent } from './contract.js';
import { get, NoServer, openSocket, ServerError } from './request.js';
import { currentToken, takeFromAddress } from './token.js';

/**
 * `asking`: no answer yet. `open`: all is well. `gone`: no answer; the page tries again. `no-token`
 * and `wrong-token`: the user has to give one. `refused`: the server answers, but with an error.
 */
export type LinkState = 'asking' | 'open' | 'gone' | 'no-token' | 'wrong-token' | 'refused';

export interface Link {
  readonly state: LinkState;
  /** For `refused`: the server's own words. */
  readonly why?: string;
}

/** One point of an export's curves. */
export interface Point extends Omit<ExportRates, 'name'> {
  /** In seconds since 1970. */
  readonly at: number;
}

/** Seconds that the curves show. */
export const spanSeconds = 120;
/** Time after which the facts of the exports are asked again, in ms. */
const refreshMs = 5000;
/** The server sends a message every second. After this silence, the link is opened again, in ms. */
const silenceMs = 8000;
/** Shortest and longest time between two attempts, in ms. */
const retryMs = { first: 500, most: 4000 };

export const link = new Store<Link>({ state: 'asking' });
export const server = new Store<ServerInfo | undefined>(undefined);
export const history = new Store<ReadonlyMap<string, readonly Point[]>>(new Map());

let socket: WebSocket | undefined;
let refreshTimer: ReturnType<typeof setTimeout> | undefined;
let retryTimer: ReturnType<typeof setTimeout> | undefined;
let silenceTimer: ReturnType<typeof setTimeout> | undefined;
let pause = retryMs.first;

/** Opens the link now: at the start, and after the user has given a token. */
export function openLink(): void {
  clearTimeout(retryTimer);
  socket?.close();
  socket = undefined;
  void open();
}

/** Asks for the facts again, after the user has changed something. */
export async function refresh(): Promise<void> {
  clearTimeout(refreshTimer);
  server.set(await get<ServerInfo>('api/exports'));
  refreshTimer = setTimeout(() => void refresh().catch(failed), refreshMs);
}

async function open(): Promise<void> {
  try {
    await refresh();
    listen();
  } catch (error) {
    failed(error);
  }
}

function failed(error: unknown): void {
  clearTimeout(refreshTimer);
  if (error instanceof ServerError && error.status === 401) {
    link.set({ state: currentToken() === undefined ? 'no-token' : 'wrong-token' });
    return;
  }
  if (error instanceof ServerError) link.set({ state: 'refused', why: error.message });
  else if (error instanceof NoServer) link.set({ state: 'gone' });
  else throw error;
  retry();
}

function retry(): void {
  clearTimeout(retryTimer);
  retryTimer = setTimeout(openLink, pause);
  pause = Math.min(pause * 2, retryMs.most);
}

function listen(): void {
  const own = openSocket('api/events', 'farbus.events');
  socket = own;
  const heard = (): void => {
    clearTimeout(silenceTimer);
    silenceTimer = setTimeout(() => own.close(), silenceMs);
  };
  heard();
  own.onmessage = ({ data }: MessageEvent<string>) => {
    if (own !== socket) return;
    heard();
    pause = retryMs.first;
    link.set({ state: 'open' });
    take(JSON.parse(data) as StateEvent | CommandsEvent);
  };
  own.onclose = () => {
    if (own !== socket) return;
    socket = undefined;
    clearTimeout(silenceTimer);
    clearTimeout(refreshTimer);
    // The next request finds out which it is: a server that is gone, or a token that has expired.
    retry();
  };
}

function take(event: StateEvent | CommandsEvent): void {
  if (event.type === 'commands') void takeCommands(event);
  else if (event.type === 'state') takeState(event);
}

/** Clients whose address was asked for. Those that have left already stay unknown. */
const asked = new Set<string>();

async function takeCommands({ commands }: CommandsEvent): Promise<void> {
  const unknown = commands.filter((one) => clientOf(one) === undefined && !asked.has(one.client));
  for (const { client } of unknown) asked.add(client);
  if (unknown.length > 0) await refresh().catch(failed);
  addServed(commands, clientName);
}

function clientOf({ export: name, client }: ServedCommand): ClientInfo | undefined {
  return server.value?.exports.find((one) => one.name === name)?.clients.find(({ id }) => id === client);
}

/** The name or the address of a client, by which people know it; its number if it has left. */
function clientName(command: ServedCommand): string {
  const of = clientOf(command);
  return of?.label ?? of?.tlsName ?? of?.peer ?? `client ${command.client}`;
}

function takeState({ time, exports }: StateEvent): void {
  const at = time / 1000;
  history.update((before) => {
    const after = new Map<string, readonly Point[]>();
    for (const { name, ...rates } of exports) {
      const kept = (before.get(name) ?? []).filter((point) => point.at > at - spanSeconds && point.at < at);
      after.set(name, [...kept, { at, ...rates }]);
    }
    return after;
  });
  if (isNews(exports)) void refresh().catch(failed);
}

/** True if the exports, their users, media or writers are others than those last asked. */
function isNews(exports: readonly ExportRates[]): boolean {
  const known = server.value?.exports ?? [];
  if (known.length !== exports.length) return true;
  return exports.some(({ name, clients, writer, medium, away }) => {
    const of = known.find((one) => one.name === name);
    if (!of || of.writer !== writer || (of.away === undefined) !== (away === undefined)) return true;
    if (server.value?.rights.control && of.clients.length !== clients) return true;
    return of.medium?.present !== medium?.present || of.medium?.held !== medium?.held;
  });
}

takeFromAddress();
addEventListener('hashchange', () => {
  if (takeFromAddress()) openLink();
});
