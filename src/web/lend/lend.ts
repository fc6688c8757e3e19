/**
 * Lends a disk of this page to other computers: the page calls a farbus server by WebSocket and
 * speaks NBD there as the target. The server offers the disk as an export as long as the page is
 * open, and waits for a while if it is not.
 *
 * Not here: the disk (picked.ts), the server's side (app/serve/lends.ts).
 */
import { BackOff } from '../../base/back-off.js';
import { messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { Exports, type Offered } from '../../export/exports.js';
import { Server } from '../../export/nbd/server.js';
import { nbdSubprotocol, subprotocols, webSocketStream, type WebSocketLike } from '../../network/websocket.js';
import { newSessionId } from '../../protocol/nbd/initiator/session-id.js';
import { lendingRefused, lendingStopped, tokenEnded } from './close-codes.js';

/**
 * `calling`: the page calls the server. `lent`: the disk is an export. `away`: the server is not
 * reachable, and the page calls again by itself. `refused`: the server does not take the disk.
 * `stopped`: the page has stopped lending it.
 */
export type LendingState = 'calling' | 'lent' | 'away' | 'refused' | 'stopped';

/** Use of a lent disk since it was lent first. */
export interface LendingUse {
  readonly requests: number;
  readonly errors: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

export interface LendingOptions {
  /** The server: "ws://127.0.0.1:8080" or "wss://...", also as http: or https:. */
  readonly server: string | URL;
  /** Name of the export. */
  readonly name: string;
  /** A token that allows lending. */
  readonly token?: string | undefined;
  /** Called at every change of the state, with a sentence for the user. */
  readonly onState?: (state: LendingState, detail: string) => void;
  /** Called some times a second while the disk is used. */
  readonly onUse?: (use: LendingUse) => void;
  readonly log?: Logger;
  /** Opens a WebSocket. Default: that of the browser. */
  readonly open?: (url: string, protocols: string[]) => LendingSocket;
}

/** A WebSocket that tells why it was closed. */
export interface LendingSocket extends WebSocketLike {
  addEventListener(type: 'open' | 'close', listener: (event: CloseFacts) => void): void;
}

interface CloseFacts {
  readonly code: number;
  readonly reason: string;
}

/** Pauses between calls, in ms. */
const pauses = { first: 250, last: 4000 } as const;
/** Interval between reports of use, in ms. */
const reportMs = 250;

/** The address of the server's route for lending. */
export function lendingUrl(server: string | URL, name: string): string {
  const url = new URL(server);
  if (url.protocol === 'http:') url.protocol = 'ws:';
  if (url.protocol === 'https:') url.protocol = 'wss:';
  url.pathname = `/lend/${encodeURIComponent(name)}`;
  url.search = url.hash = '';
  return url.href;
}

/** Lends a disk until {@link Lending.stop} or the end of the page. Takes the disk over. */
export function lend(device: BlockDevice, options: LendingOptions): Lending {
  return new Lending(device, options);
}

export class Lending {
  readonly #options: LendingOptions;
  readonly #url: string;
  readonly #protocols: string[];
  readonly #server: Server;
  readonly #offered: Offered;
  readonly #stop = new AbortController();
  readonly #calls: Promise<void>;
  #socket: LendingSocket | undefined;
  #state: LendingState | undefined;
  #detail = '';
  #reported = -1;
  #report: ReturnType<typeof setInterval> | undefined;
  #stopped: Promise<void> | undefined;

  /** @throws FarbusError if the token is not one */
  constructor(device: BlockDevice, options: LendingOptions) {
    this.#options = options;
    this.#url = lendingUrl(options.server, options.name);
    this.#protocols = subprotocols([nbdSubprotocol], options.token);
    // The memory of this page holds what is not flushed, so its name ends with the page.
    const exports = new Exports(newSessionId());
    this.#offered = exports.add({ name: 'lent', device, isDefault: true });
    this.#server = new Server(exports, options.log ?? silent);
    this.#report = setInterval(() => this.#look(), reportMs);
    holdPage(this.#stop.signal);
    this.#calls = this.#callOn();
  }

  get state(): LendingState {
    return this.#state ?? 'calling';
  }

  /** A sentence about the state. */
  get detail(): string {
    return this.#detail;
  }

  get use(): LendingUse {
    const { requests, errors, bytesRead, bytesWritten } = this.#offered.counters;
    return { requests, errors, bytesRead, bytesWritten };
  }

  /** Stops lending: the export ends at once. Flushes and closes the disk. Idempotent. */
  stop(): Promise<void> {
    return (this.#stopped ??= this.#end('stopped', 'it is no longer lent'));
  }

  async #end(state: LendingState, detail: string): Promise<void> {
    this.#stop.abort();
    // Requests in flight are answered and the disk is flushed before the server hears of the end.
    if (state === 'stopped') await this.#offered.device.flush().catch(() => undefined);
    this.#socket?.close(lendingStopped);
    await this.#calls;
    clearInterval(this.#report);
    await this.#server.drain();
    this.#enter(state, detail);
  }

  /** Calls until the end. */
  async #callOn(): Promise<void> {
    const { signal } = this.#stop;
    let backOff = new BackOff(pauses);
    for (let first = true; !signal.aborted; first = false) {
      this.#enter(first ? 'calling' : 'away', first ? 'calling the server' : this.#detail);
      const { code, reason, opened } = await this.#call();
      if (signal.aborted) return;
      if (code === lendingRefused) return this.#giveUp(reason || 'the server does not take it');
      if (code === tokenEnded) {
        return this.#giveUp('the token has expired or was revoked: lend the file again with a new token');
      }
      if (first && !opened) {
        return this.#giveUp('the server does not answer, or does not take the token: check the address and the token');
      }
      if (opened) backOff = new BackOff(pauses);
      this.#enter('away', 'the server is not reachable: trying again');
      await backOff.wait(signal);
    }
  }

  #giveUp(why: string): void {
    this.#stopped ??= this.#end('refused', why);
  }

  /** One call, until it is closed. */
  #call(): Promise<{ code: number; reason: string; opened: boolean }> {
    const { open = (url, protocols) => new WebSocket(url, protocols) as unknown as LendingSocket } = this.#options;
    return new Promise((resolve) => {
      let socket: LendingSocket;
      try {
        socket = open(this.#url, this.#protocols);
      } catch (error) {
        return resolve({ code: 0, reason: messageOf(error), opened: false });
      }
      let opened = false;
      this.#socket = socket;
      socket.binaryType = 'arraybuffer';
      socket.addEventListener('open', () => {
        opened = true;
        this.#server.accept(webSocketStream(socket, { peer: 'the server' }));
      });
      socket.addEventListener('close', ({ code, reason }) => resolve({ code, reason, opened }));
    });
  }

  #look(): void {
    if (this.#offered.users.size > 0 && this.#socket?.readyState === 1) {
      this.#enter('lent', `lent as ${JSON.stringify(this.#options.name)} while this page is open`);
    }
    const { requests } = this.#offered.counters;
    if (requests === this.#reported) return;
    this.#reported = requests;
    this.#options.onUse?.(this.use);
  }

  #enter(state: LendingState, detail: string): void {
    if (this.#state === state && this.#detail === detail) return;
    this.#state = state;
    this.#detail = detail;
    this.#options.onState?.(state, detail);
  }
}

/**
 * Keeps the browser from freezing the page in the background: it does not freeze pages that hold a
 * Web Lock.
 */
function holdPage(until: AbortSignal): void {
  const { locks } = (globalThis.navigator ?? {}) as { locks?: LockManager };
  const held = new Promise<void>((resolve) => until.addEventListener('abort', () => resolve(), { once: true }));
  locks?.request('farbus-lend', { mode: 'shared' }, () => held).catch(() => undefined);
}

interface LockManager {
  request(name: string, options: { mode: 'shared' }, callback: () => Promise<void>): Promise<unknown>;
}
