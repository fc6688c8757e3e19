/**
 * Connections to one web server for range requests, without proxies.
 *
 * A request takes an idle connection, or opens one. Requests that may wait behind others
 * (HttpRequest.mayQueue) are sent on one connection without waiting for answers: many then cost one
 * system call, on both sides.
 */
import { connect, isIP } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type SecureContext } from 'node:tls';
import type { BodySink } from '../exchange.js';
import { Connection, type DirectRequest, type OpenSocket } from './connection.node.js';
import type { AnswerHead } from './head.node.js';

/** Time to connect, in ms. */
const connectMs = 10_000;
/** Idle connections are closed after this time in ms: gateways in between forget them. */
const idleMs = 4000;
/** Most requests on one connection whose answers are not complete. */
const mostQueued = 16;
/** How often a request is sent again because its connection ended before the answer began. */
const mostResends = 4;
/**
 * A server that closes connections with requests behind others after fewer answers than this gets
 * one request at a time on each connection.
 */
const fewAnswers = 50;

interface Member {
  readonly connection: Connection;
  /** Its requests may wait behind each other. */
  isQueue: boolean;
  /** When its latest answer was complete, in ms of performance.now(). */
  idleSince: number;
}

export interface PoolRequest {
  /** Path and query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly mayQueue: boolean;
  /** As {@link DirectRequest.begin}. */
  begin(head: AnswerHead): BodySink | undefined;
  endBy(end: (reason: Error) => void): void;
}

/** A header that could end early, or begin another one. */
const unfit = /[^\t\x20-\x7e\x80-\xff]/;

export class Pool {
  readonly #url: URL;
  readonly #openSocket: OpenSocket;
  readonly #members = new Set<Member>();
  /** Requests may be sent before the answers of earlier ones. */
  #queues = true;
  #isClosed = false;
  #sweeper: ReturnType<typeof setInterval> | undefined;

  /** @param open opens a socket to the server of `url` (socketsTo) */
  constructor(url: URL, open: OpenSocket) {
    this.#url = url;
    this.#openSocket = open;
  }

  /** True if it has no connections. */
  get isEmpty(): boolean {
    return this.#members.size === 0;
  }

  /**
   * Sends a GET request.
   * @returns false if the request or its answer is one that this client cannot handle
   */
  exchange(asked: PoolRequest): Promise<boolean> {
    const text = this.#textOf(asked);
    if (text === undefined) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      let resends = 0;
      let isStopped = false;
      let member: Member | undefined;
      const request: DirectRequest = {
        text,
        begin: (head) => asked.begin(head),
        done: () => {
          member!.idleSince = performance.now();
          resolve(true);
        },
        unusual: () => resolve(false),
        failed: reject,
        resend: (error) => {
          if (resends++ < mostResends && !this.#isClosed) send();
          else reject(error);
        },
      };
      const send = (): void => {
        member = this.#member(asked.mayQueue);
        member.connection.send(request);
      };
      asked.endBy((reason) => {
        member?.connection.stop(request, reason);
        // The signal may have aborted before the request is sent.
        isStopped = true;
        reject(reason);
      });
      if (!isStopped) send();
    });
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#sweeper);
    for (const { connection } of this.#members) connection.close(new Error('the disk is closed'));
  }

  #textOf({ path, headers }: PoolRequest): string | undefined {
    let text = `GET ${path} HTTP/1.1\r\nhost: ${this.#url.host}\r\nconnection: keep-alive\r\n`;
    for (const name in headers) {
      const value = headers[name]!;
      if (unfit.test(value)) return undefined;
      text += `${name}: ${value}\r\n`;
    }
    return `${text}\r\n`;
  }

  #member(mayQueue: boolean): Member {
    let idle: Member | undefined;
    for (const member of this.#members) {
      const { inFlight } = member.connection;
      if (inFlight === 0) idle ??= member;
      else if (mayQueue && this.#queues && member.isQueue && inFlight < mostQueued) return member;
    }
    const member = idle ?? this.#open();
    member.isQueue = mayQueue;
    return member;
  }

  #open(): Member {
    const connection: Connection = new Connection(this.#openSocket, (lost) => {
      this.#members.delete(member);
      if (lost > 0 && connection.answers < fewAnswers) this.#queues = false;
      if (this.#members.size === 0) clearInterval(this.#sweeper);
    });
    const member: Member = { connection, isQueue: false, idleSince: Infinity };
    if (this.#members.size === 0) this.#sweeper = setInterval(() => this.#sweep(), idleMs / 4).unref();
    this.#members.add(member);
    return member;
  }

  #sweep(): void {
    const before = performance.now() - idleMs;
    for (const { connection, idleSince } of this.#members) {
      if (connection.inFlight === 0 && idleSince < before) connection.close(new Error('idle'));
    }
  }
}

/**
 * Opens sockets to the server of a URL.
 * @param context for https
 */
export function socketsTo(url: URL, context: SecureContext | undefined): OpenSocket {
  // The name of an IPv6 address is in brackets.
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isSecure = url.protocol === 'https:';
  const port = Number(url.port) || (isSecure ? 443 : 80);
  const secure = {
    secureContext: context,
    ALPNProtocols: ['http/1.1'],
    ...(isIP(host) === 0 && { servername: host }),
  };
  return (onread) => {
    // tls.connect has the option `onread` too; its types do not.
    const options = { host, port, onread };
    const socket = isSecure ? connectTls({ ...options, ...secure } as ConnectionOptions) : connect(options);
    const late = (): void => void socket.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' }));
    const timer = setTimeout(late, connectMs);
    const connected = (): void => clearTimeout(timer);
    socket.once(isSecure ? 'secureConnect' : 'connect', connected).once('close', connected);
    return socket;
  };
}
