/**
 * One connection to a web server for GET requests with bodies of a known length (RFC 9112).
 *
 * Requests are sent at once, also before the answers of earlier ones (pipelining, RFC 9112 §9.3.2);
 * answers come in the same order. The bytes of a long body are received in the memory of the
 * reader, without a copy.
 *
 * It trusts no answer: a head that is not plainly understood ends the connection, and so do bytes
 * that no request has asked for.
 */
import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import type { BodySink } from '../exchange.js';
import { readHead, type AnswerHead } from './head.node.js';

/**
 * A request, and how it ends: exactly one of `done`, `unusual`, `failed` and `resend` is called.
 */
export interface DirectRequest {
  /** The request's head. */
  readonly text: string;
  /**
   * Takes the head of the answer; returns where the body goes, or undefined if it is not needed.
   * Throws to end the transfer.
   */
  begin(head: AnswerHead): BodySink | undefined;
  done(): void;
  /** The answer cannot be read here: another client must send the request. */
  unusual(): void;
  failed(error: unknown): void;
  /** The connection ended before the answer began, which need not be this request's fault. */
  resend(error: Error): void;
}

/** Opens a socket that receives by `onread` (net.connect, tls.connect). */
export type OpenSocket = (onread: {
  buffer: () => Uint8Array;
  callback: (length: number, buffer: Uint8Array) => boolean;
}) => Socket;

/**
 * Where heads and short bodies are received. All connections share it: libuv reads a socket when it
 * is ready, and calls back before it reads the next one. Not so on Windows.
 */
const shared = Buffer.allocUnsafeSlow(64 << 10);

export class Connection {
  readonly #socket: Socket;
  readonly #ended: (lost: number) => void;
  readonly #scratch = process.platform === 'win32' ? Buffer.allocUnsafeSlow(shared.length) : shared;
  /** Requests without their whole answer, the oldest first. */
  readonly #requests: DirectRequest[] = [];
  /** The part of a head that has arrived. */
  #part: Buffer | undefined;
  /** Where the body of the oldest request goes, while it arrives. */
  #sink: BodySink | undefined;
  /** Bytes of the body that have not arrived. */
  #left = 0;
  /** The reader's memory, in which the socket receives. */
  #memory: Uint8Array | undefined;
  /** Texts of requests that are sent at the end of this turn of the event loop. */
  #unsent = '';
  #isLast = false;
  #answers = 0;
  /** The oldest request was sent behind another one. */
  #isBehind = false;
  #error: Error | undefined;
  #isOver = false;

  /**
   * @param ended called once, when the connection takes no more requests, with the number of
   * requests that were sent behind others, and that the server left without an answer
   */
  constructor(open: OpenSocket, ended: (lost: number) => void) {
    this.#ended = ended;
    this.#socket = open({
      buffer: () => (this.#memory = this.#room()) ?? this.#scratch,
      callback: (length, buffer) => {
        this.#receive(length, buffer);
        return !this.#isOver;
      },
    });
    this.#socket.setNoDelay(true);
    this.#socket.on('error', (error) => (this.#error ??= error));
    this.#socket.on('end', () => this.#end('server'));
    this.#socket.on('close', () => this.#end('server'));
  }

  /** Number of requests whose answers are not complete. */
  get inFlight(): number {
    return this.#requests.length;
  }

  /** Number of complete answers so far. */
  get answers(): number {
    return this.#answers;
  }

  send(request: DirectRequest): void {
    if (this.#requests.length === 0) {
      this.#isBehind = false;
      this.#socket.ref();
    }
    this.#requests.push(request);
    if (this.#unsent === '') queueMicrotask(this.#write);
    this.#unsent += request.text;
  }

  /** Ends the transfer of a request, and the connection with it. */
  stop(request: DirectRequest, reason: unknown): void {
    const at = this.#requests.indexOf(request);
    if (at < 0) return;
    this.#requests.splice(at, 1);
    if (at === 0) this.#sink = undefined;
    this.#end('us');
    request.failed(reason);
  }

  close(error: Error): void {
    this.#error ??= error;
    this.#end('us');
  }

  readonly #write = (): void => {
    const text = this.#unsent;
    this.#unsent = '';
    if (!this.#isOver) this.#socket.write(text, 'latin1');
  };

  /** The memory of the reader for the rest of a body, if it can be received there. */
  #room(): Uint8Array | undefined {
    return this.#sink && this.#left > 0 ? this.#sink.memory?.(this.#left) : undefined;
  }

  #receive(length: number, buffer: Uint8Array): void {
    if (this.#isOver) return;
    if (this.#memory) return this.#body(this.#memory.subarray(0, length));
    let bytes = Buffer.from(buffer.buffer, buffer.byteOffset, length);
    if (this.#part) bytes = Buffer.concat([this.#part, bytes]);
    this.#part = undefined;
    for (let at = 0; at < bytes.length && !this.#isOver;) {
      if (this.#sink) {
        const end = Math.min(bytes.length, at + this.#left);
        this.#body(bytes.subarray(at, end));
        at = end;
        continue;
      }
      const found = this.#requests.length > 0 ? readHead(bytes, at) : 'unusual';
      if (found === undefined) {
        // The shared buffer is used again for the next bytes.
        this.#part = Buffer.from(bytes.subarray(at));
        return;
      }
      if (found === 'unusual') return this.#unusual();
      at = found.end;
      this.#head(found.head);
    }
  }

  #head(head: AnswerHead): void {
    const request = this.#requests[0]!;
    this.#isLast = head.isLast;
    try {
      this.#sink = request.begin(head);
    } catch (error) {
      return this.stop(request, error);
    }
    if (this.#sink && head.length === undefined) return this.#unusual();
    // A body that is not needed is not waited for.
    this.#isLast ||= this.#sink === undefined;
    this.#left = this.#sink ? head.length! : 0;
    if (this.#left === 0) this.#complete();
  }

  /** Bytes of the body have arrived, in the reader's memory or in the buffer. */
  #body(part: Uint8Array): void {
    const request = this.#requests[0]!;
    try {
      if (this.#memory) this.#sink!.arrived!(part.length);
      else this.#sink!.take(part);
    } catch (error) {
      return this.stop(request, error);
    }
    this.#left -= part.length;
    if (this.#left === 0) this.#complete();
  }

  #complete(): void {
    this.#sink = undefined;
    this.#answers++;
    const request = this.#requests.shift()!;
    this.#isBehind = this.#requests.length > 0;
    if (this.#isLast) this.#end('server');
    else if (this.#requests.length === 0) this.#socket.unref();
    request.done();
  }

  /** The answer cannot be read here, or no request has asked for it. */
  #unusual(): void {
    const request = this.#requests.shift();
    this.#end('us');
    request?.unusual();
  }

  #end(by: 'us' | 'server'): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#socket.destroy();
    const isBegun = this.#sink !== undefined;
    const isAnswering = isBegun || this.#part !== undefined || this.#answers === 0;
    this.#sink = undefined;
    const requests = this.#requests.splice(0);
    this.#ended(by === 'us' ? 0 : Math.max(0, requests.length - (this.#isBehind ? 0 : 1)));
    const error =
      this.#error ?? new Error(by === 'us' ? 'the connection was given up' : 'the server closed the connection');
    // A body is not begun again: its reader keeps what has arrived. A server may close an idle
    // connection at the moment when a request is sent.
    if (isBegun || (by === 'server' && isAnswering)) requests.shift()?.failed(error);
    for (const request of requests) request.resend(error);
  }
}
