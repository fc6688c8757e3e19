/**
 * Lends a disk of this page to other computers: the page calls a farbus server by WebSocket and
 * speaks NBD there as the target. The server offers the disk as an export as long as the page is
 * open, and waits for a while if it is not.
 *
 * Not here: the disk (picked.ts, disk.ts), the server's side (app/serve/lends.ts).
 */
import { BackOff } from '../../base/back-off.js';
import { messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { BlockError } from '../../block/errors.js';
import { Exports, type Offered } from '../../export/exports.js';
import { Server } from '../../export/nbd/server.js';
import { CommandWatch } from '../../export/watch.js';
import { nbdSubprotocol, subprotocols, webSocketStream, type WebSocketLike } from '../../network/websocket.js';
import { newSessionId } from '../../protocol/nbd/initiator/session-id.js';
import { lendingRefused, lendingStopped, tokenEnded } from './close-codes.js';
import { holdPage } from './hold-page.js';

/**
 * `calling`: the page calls the server. `lent`: the disk is an export. `away`: the server is not
 * reachable, and the page calls again by itself. `refused`: the server does not take the disk.
 * `stopped`: the page has stopped lending it.
 */
export type LendingState = 'calling' | 'lent' | 'away' | 'refused' | 'stopped';

/** Use of a lent disk since it was lent first. */
export interface LendingUse {
  /** Requests of all its users. */
  readonly requests: number;
  /** Requests that failed. */
  readonly errors: number;
  /** Bytes that were read. */
  readonly bytesRead: number;
  /** Bytes that were written. */
  readonly bytesWritten: number;
  /** The latest failure of the disk itself: no room, or an error of its storage. */
  readonly failure?: LendingFailure;
}

/** A failure of a lent disk. */
export interface LendingFailure {
  /** In ms since 1970. */
  readonly time: number;
  /** A clause for people, with what to do. */
  readonly message: string;
}

/** Options of {@link lend}. Receivers must not throw. */
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
  /** Receives warnings and other lines. Default: none. */
  readonly log?: Logger;
  /** Opens a WebSocket. Default: that of the browser. */
  readonly open?: (url: string, protocols: string[]) => LendingSocket;
}

/** A WebSocket that tells why it was closed. */
export interface LendingSocket extends WebSocketLike {
  /** Calls the listener when it is open or closed. */
  addEventListener(type: 'open' | 'close', listener: (event: LendingClose) => void): void;
}

/** The end of a WebSocket. */
export interface LendingClose {
  /** The close code (docs/web.md). */
  readonly code: number;
  /** A sentence, or ''. */
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

/**
 * Lends a disk of this page, or of a worker, to a server of `farbus serve --web`. It is an export
 * there until {@link Lending.stop} or the end of the page. Other computers can write it unless the
 * device is read-only. Takes the device over.
 *
 * A page that is opened again lends the same disk under the same name: clients wait for it
 * (docs/web.md). Writes that are not flushed when the page ends count as lost.
 *
 * @throws FarbusError if the token is none
 *
 * @example
 * ```ts
 * import { MemoryDevice } from 'farbus';
 * import { lend } from 'farbus/browser';
 *
 * const lending = lend(new MemoryDevice(64 << 20), {
 *   server: 'http://127.0.0.1:8080',
 *   token: 'TOKEN', // of farbus token --lend
 *   name: 'scratch',
 *   onState: (state, detail) => console.log(state, detail),
 * });
 * await lending.stop();
 * ```
 */
export function lend(device: BlockDevice, options: LendingOptions): Lending {
  return new Lending(device, options);
}

/** A disk that is lent. Made by {@link lend}. */
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
  #failure: LendingFailure | undefined;
  #report: ReturnType<typeof setInterval> | undefined;
  #stopped: Promise<void> | undefined;

  /** @internal */
  constructor(device: BlockDevice, options: LendingOptions) {
    this.#options = options;
    this.#url = lendingUrl(options.server, options.name);
    this.#protocols = subprotocols([nbdSubprotocol], options.token);
    // The memory of this page holds what is not flushed, so its name ends with the page.
    const exports = new Exports(newSessionId());
    const watch = new CommandWatch();
    watch.add(({ error }) => this.#noteFailure(error));
    this.#offered = exports.add({ name: 'lent', device, isDefault: true, watch });
    this.#server = new Server(exports, options.log ?? silent);
    this.#report = setInterval(() => this.#look(), reportMs);
    holdPage(this.#stop.signal);
    this.#calls = this.#callOn();
  }

  /** The present state. */
  get state(): LendingState {
    return this.#state ?? 'calling';
  }

  /** A sentence about the state. */
  get detail(): string {
    return this.#detail;
  }

  /** Use of the disk until now. */
  get use(): LendingUse {
    const { requests, errors, bytesRead, bytesWritten } = this.#offered.counters;
    return { requests, errors, bytesRead, bytesWritten, ...(this.#failure && { failure: this.#failure }) };
  }

  /**
   * Stops lending: the export ends at once. Flushes and closes the disk, and rejects if that fails.
   * Idempotent.
   */
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
    try {
      await this.#server.drain();
    } catch (error) {
      this.#enter(state, `${detail}, and its last writes may be lost: ${messageOf(error)}`);
      throw error;
    }
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
    // The state tells the reason.
    this.#stopped.catch(() => undefined);
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

  /** Other kinds of errors are the client's doing, such as a range beyond the end. */
  #noteFailure(error: unknown): void {
    if (!(error instanceof BlockError) || (error.kind !== 'no-space' && error.kind !== 'io')) return;
    this.#failure = { time: Date.now(), message: error.message };
    this.#reported = -1;
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
