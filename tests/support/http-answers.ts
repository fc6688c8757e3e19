/** A web server without a network for the HTTP client of src/storage/http/direct. */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { OpenSocket } from '../../src/storage/http/direct/connection.node.js';
import type { AnswerHead } from '../../src/storage/http/direct/head.node.js';
import { Pool } from '../../src/storage/http/direct/pool.node.js';
import type { Send } from '../../src/storage/http/exchange.js';

type Receiver = Parameters<OpenSocket>[0];

/** The client's end of a connection to the server. */
export class FakeSocket extends EventEmitter {
  destroyed = false;
  /** Number of bytes that have arrived at the client. */
  fed = 0;
  readonly #receiver: Receiver;
  readonly #requests: (socket: FakeSocket, starts: readonly [start: number, end: number][]) => void;
  #buffer: Uint8Array;

  constructor(receiver: Receiver, requests: FakeSocket['answer']) {
    super();
    this.#receiver = receiver;
    this.#requests = requests;
    this.#buffer = receiver.buffer();
  }

  /** Requests have arrived together: the ranges that they ask for. */
  get answer(): (socket: FakeSocket, ranges: readonly [start: number, end: number][]) => void {
    return this.#requests;
  }

  write(text: string): void {
    const found = [...text.matchAll(/range: bytes=(\d+)-(\d+)\r\n/g)];
    const ranges = found.map(([, start, last]): [number, number] => [Number(start), Number(last) + 1]);
    setImmediate(() => this.#requests(this, ranges));
  }

  /** Bytes arrive at the client, as many at once as it has room for. */
  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.destroyed;) {
      const count = Math.min(this.#buffer.length, bytes.length - at);
      this.#buffer.set(bytes.subarray(at, at + count));
      at += count;
      this.fed += count;
      this.#receiver.callback(count, this.#buffer);
      this.#buffer = this.#receiver.buffer();
    }
  }

  /** The server closes the connection. */
  finish(): void {
    if (!this.destroyed) this.emit('end');
  }

  destroy(): this {
    if (!this.destroyed) queueMicrotask(() => this.emit('close'));
    this.destroyed = true;
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}

export interface FakeServer {
  readonly pool: Pool;
  /** Sends requests by the pool. Rejects if another client would have to send them. */
  readonly send: Send;
  /** All connections so far. */
  readonly sockets: FakeSocket[];
}

/** @param answer gets the requests that arrive together on a connection */
export function fakeServer(answer: FakeSocket['answer']): FakeServer {
  const sockets: FakeSocket[] = [];
  const open: OpenSocket = (receiver) => {
    const socket = new FakeSocket(receiver, answer);
    sockets.push(socket);
    return socket as unknown as Socket;
  };
  const pool = new Pool(new URL('http://host/a'), open);
  const send: Send = async (url, { headers, mayQueue = false, receive, endBy }) => {
    const begin = ({ status, header }: AnswerHead) => receive({ url, status, header });
    if (!(await pool.exchange({ path: '/a', headers, mayQueue, begin, endBy }))) throw new Error('unusual');
  };
  return { pool, send, sockets };
}

/** A right answer to a request for a range. */
export function rangeAnswer(content: Uint8Array, [start, end]: readonly [number, number], more = ''): Buffer {
  const range = `bytes ${start}-${end - 1}/${content.length}`;
  const head = `HTTP/1.1 206 Partial Content\r\nETag: "1"\r\nContent-Range: ${range}\r\n${more}Content-Length: ${end - start}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), content.subarray(start, end)]);
}
