/**
 * A channel over one session: a shell on the server that runs dd for each command (script.ts).
 *
 * Several commands are sent ahead; the shell carries them out one after the other and answers in
 * order. If an answer is not exactly as expected, the session is resynchronised by a random nonce,
 * which no earlier output can contain. Commands without an answer are then sent again.
 */
import { contiguous } from '../../base/buffers.js';
import { BlockError } from '../../block/errors.js';
import type { ByteStream } from '../../network/stream.js';
import { messageOf } from '../../base/errors.js';
import type { Fate, FenceKey } from '../../block/life.js';
import { keyPartOfServer, startedAnew, type Channel, type ChannelEvents } from '../channels/channel.js';
import type { RemoteRequest } from '../channels/request.js';
import { printable } from '../../base/printable.js';
import { ddError } from './errors.js';
import type { ShellFacts } from './facts.js';
import { isToken, randomHex, type SessionNames } from './script.js';
import { translate } from './translate.js';

/** Most commands sent ahead, and most bytes of data. */
const maxDepth = 8;
const maxBytes = 4 << 20;
/** Longest line of an answer, in bytes. The script truncates messages to stay below it. */
const maxLine = 600;
/**
 * Time limit for a resynchronisation, and for one command once it is the oldest, in ms; and the
 * interval of checks.
 */
const resyncMs = 60_000;
const answerMs = 300_000;
const watchMs = 10_000;

/** A command that was sent and not answered. */
interface Sent {
  readonly id: string;
  /** Undefined for a command of the pool itself (a fence). */
  readonly request: RemoteRequest | undefined;
  /** Number of data bytes before the answer's line. */
  readonly data: number;
  got: number;
  /** Set if the memory for the data is gone. */
  fault?: BlockError;
  readonly say?: (word: string | undefined) => void;
}

/** A shell gives the status 128 + N to a command that signal N has ended (POSIX XCU §2.8.2). */
const signalStatus = 128;

/** An answer that reports a failed command. */
interface Failure {
  readonly id: string;
  readonly status: number;
  readonly text: string;
}

export class ShellChannel implements Channel {
  readonly facts: ShellFacts;
  readonly names: SessionNames;
  readonly fenceKey: FenceKey;
  readonly #stream: ByteStream;
  readonly #address: string;
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder('latin1');
  #events: ChannelEvents | undefined;
  #sent: Sent[] = [];
  #bytes = 0;
  #lastId = 0;
  #blocked = false;
  #closed = false;
  #ended: (() => void) | undefined;
  #line = '';
  /** The last bytes that arrived, to detect an error message in place of data. */
  #tail = '';
  /** Set while the session is being resynchronised. */
  #resync: { readonly nonce: string; readonly failure: Failure | undefined; seen: string } | undefined;
  #resyncTimer: ReturnType<typeof setTimeout> | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  /**
   * Time since which the oldest command has been waiting for its answer, in ms of
   * `performance.now()`.
   */
  #headSince = 0;

  constructor(stream: ByteStream, facts: ShellFacts, names: SessionNames, address: string) {
    this.#stream = stream;
    this.facts = facts;
    this.names = names;
    const { pid, group, space } = facts;
    this.fenceKey = {
      kind: 'dd',
      ...keyPartOfServer(facts),
      space: space.slice(0, 64),
      token: names.token,
      pid,
      group,
    };
    this.#address = address;
    stream.attach({
      data: (chunk) => this.#data(chunk),
      drain: () => {
        this.#blocked = false;
        this.#events?.room();
      },
      closed: (error) => this.#onClosed(error),
    });
  }

  get load(): number {
    return this.#sent.length;
  }

  hasRoom(request: RemoteRequest): boolean {
    if (this.#closed || this.#blocked || this.#resync) return false;
    if (this.#sent.length === 0) return true;
    return this.#sent.length < maxDepth && this.#bytes + request.length <= maxBytes;
  }

  start(events: ChannelEvents): void {
    this.#events = events;
    if (this.#closed) queueMicrotask(() => events.lost('the session ended', []));
  }

  /**
   * Sends a request. [SYS] fig. 13: 421, read or write; 422 and 425, translate; 423 and 426, send;
   * 427, send the data.
   */
  send(request: RemoteRequest): void {
    const { op, offset, length, buffers } = request;
    const { skipBytes, seekBytes, fullBlock } = this.facts;
    switch (op) {
      case 'read':
        return this.#command('R', request, translate({ offset, length }, { bytes: skipBytes }), length);
      case 'write': {
        const run = translate({ offset, length }, { bytes: seekBytes, byteInput: !fullBlock && !seekBytes });
        return this.#command('W', request, run, 0, contiguous(buffers!));
      }
      case 'zero':
        return this.#command('Z', request, translate({ offset, length }, { bytes: seekBytes }), 0);
      case 'flush':
        return this.#put({ id: this.#newId(), request, data: 0, got: 0 }, 'F', '');
    }
  }

  fence(key: FenceKey): Promise<Fate> {
    if (startedAnew(key, this.facts)) return Promise.resolve('gone');
    const { kind, machine, space, token, pid, group } = key;
    // On another computer or in another container, the absence of a process proves nothing.
    if (kind !== 'dd' || machine !== this.fenceKey['machine'] || space !== this.fenceKey['space'])
      return Promise.resolve('unknown');
    // These values become words of a line that the script reads.
    if (!isToken(String(token)) || !/^\d{1,10}$/.test(String(pid)) || !/^(\d{1,10}|-)$/.test(String(group)))
      return Promise.resolve('unknown');
    return new Promise((resolve, reject) => {
      const say = (word: string | undefined): void => {
        if (word === 'gone' || word === 'unknown') resolve(word);
        else reject(new Error(word === 'alive' ? 'an earlier session is still writing there' : 'the session was lost'));
      };
      if (this.#closed || this.#resync) return say(undefined);
      const sent = { id: this.#newId(), request: undefined, data: 0, got: 0, say };
      this.#put(sent, 'K', `${token} ${pid} ${group}`);
    });
  }

  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#ended = resolve;
      this.#stream.end();
    });
  }

  destroy(): void {
    this.#stream.destroy();
  }

  #newId(): string {
    return String(++this.#lastId);
  }

  #command(
    letter: string,
    request: RemoteRequest,
    run: ReturnType<typeof translate>,
    data: number,
    payload?: Uint8Array,
  ): void {
    const { unit, position, count, records } = run;
    this.#put({ id: this.#newId(), request, data, got: 0 }, letter, `${unit} ${position} ${count} ${records}`, payload);
  }

  #put(sent: Sent, letter: string, rest: string, payload?: Uint8Array): void {
    if (this.#sent.length === 0) this.#headSince = performance.now();
    this.#watch ??= setInterval(() => this.#checkAlive(), watchMs);
    this.#sent.push(sent);
    this.#bytes += sent.request?.length ?? 0;
    const line = this.#encoder.encode(`${letter} ${sent.id}${rest === '' ? '' : ` ${rest}`}\n`);
    this.#blocked = !this.#stream.write(payload ? [line, payload] : [line]);
  }

  #checkAlive(): void {
    if (this.#sent.length === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
    } else if (performance.now() - this.#headSince > answerMs) {
      this.destroy();
    }
  }

  #data(chunk: Uint8Array): void {
    if (this.#resync) return this.#seek(chunk);
    this.#tail = (this.#tail + this.#decoder.decode(chunk.subarray(-maxLine))).slice(-maxLine);
    // [SYS] step 424: receive the answer of the server's system.
    for (let at = 0; at < chunk.length && !this.#resync;) {
      const head = this.#sent[0];
      // Output that arrives while no command is outstanding is ignored.
      if (!head) return;
      if (head.got < head.data) {
        const part = chunk.subarray(at, at + head.data - head.got);
        place(head, part);
        head.got += part.length;
        at += part.length;
      } else {
        at = this.#gather(head, chunk, at);
      }
    }
    if (!this.#resync && this.#tail.includes(this.names.marker)) this.#errorInData();
  }

  /** Collects an answer's line. Returns the index after it in the chunk. */
  #gather(head: Sent, chunk: Uint8Array, from: number): number {
    let end = chunk.indexOf(0x0a, from);
    if (end < 0) end = chunk.length;
    if (this.#line.length + end - from > maxLine) {
      this.#outOfStep(this.#failureOf(head));
      return chunk.length;
    }
    this.#line += this.#decoder.decode(chunk.subarray(from, end));
    if (end === chunk.length) return end;
    const line = this.#line;
    this.#line = '';
    this.#answer(head, line);
    return end + 1;
  }

  #answer(head: Sent, line: string): void {
    const start = `${this.names.marker} ${head.id} `;
    // An error message begins with an empty line; or its beginning was taken for data.
    if (line === '' && !this.#failureOf(head)) return;
    if (!line.startsWith(start)) return this.#outOfStep(this.#failureOf(head));
    const word = line.slice(start.length);
    if (head.say && /^(gone|alive|unknown)$/.test(word)) {
      this.#shift();
      head.say(word);
    } else if (word === 'ok' && head.request) {
      this.#shift();
      this.#events?.answered(head.request, head.fault);
    } else {
      return this.#outOfStep(this.#failureOf(head));
    }
    this.#events?.room();
  }

  #shift(): void {
    const sent = this.#sent.shift();
    this.#headSince = performance.now();
    this.#bytes -= sent?.request?.length ?? 0;
  }

  /**
   * Detects an error message in place of data, at the end of the received bytes: a read that ends
   * early.
   */
  #errorInData(): void {
    const head = this.#sent[0];
    if (!head || head.got === 0 || head.got >= head.data) return;
    const failure = this.#failureOf(head);
    if (failure || this.#tail.includes(`${this.names.marker} ${head.id} ok\n`)) this.#outOfStep(failure);
  }

  /**
   * Parses the script's error message for a command. It is at the end of the received bytes,
   * because the script then waits.
   */
  #failureOf(head: Sent): Failure | undefined {
    const at = this.#tail.lastIndexOf(`\n${this.names.marker} ${head.id} error `);
    if (at < 0) return undefined;
    const match = /^\n\S+ \S+ error (\d{1,3}) ([^\n]*)\n/.exec(this.#tail.slice(at));
    return match ? { id: head.id, status: Number(match[1]), text: match[2]! } : undefined;
  }

  /** Resynchronises the session. */
  #outOfStep(failure: Failure | undefined): void {
    // A signal has ended dd, not the disk: end the session like one that was killed as a whole. Its
    // requests are repeated in the next one.
    if (failure && failure.status > signalStatus) return this.destroy();
    const nonce = randomHex();
    this.#resync = { nonce, failure, seen: '' };
    this.#line = '';
    this.#resyncTimer = setTimeout(() => this.destroy(), resyncMs);
    this.#stream.write([this.#encoder.encode(`\nS ${this.names.marker} ${nonce}\n`)]);
  }

  /** Skips input up to the answer to the nonce. */
  #seek(chunk: Uint8Array): void {
    const resync = this.#resync!;
    const text = resync.seen + this.#decoder.decode(chunk);
    const start = `\n${this.names.marker} sync ${resync.nonce} `;
    const at = text.indexOf(start);
    const end = at < 0 ? -1 : text.indexOf('\n', at + start.length);
    if (end < 0) {
      resync.seen = at < 0 ? text.slice(-start.length) : text.slice(at, at + maxLine);
      return;
    }
    const skipped = text.slice(at + start.length, end) === 'skipped';
    clearTimeout(this.#resyncTimer);
    this.#resync = undefined;
    const unanswered = this.#sent;
    this.#sent = [];
    this.#bytes = 0;
    this.#inStep(unanswered, skipped ? resync.failure : undefined);
  }

  /** Settles the unanswered commands: the failed one fails, the others are sent again. */
  #inStep(unanswered: readonly Sent[], failure: Failure | undefined): void {
    const again: RemoteRequest[] = [];
    for (const { id, request, say } of unanswered) {
      if (!request) say?.(undefined);
      else if (id === failure?.id) this.#events?.answered(request, this.#error(request, failure));
      else again.push(request);
    }
    this.#events?.again(again);
    this.#events?.room();
  }

  #error(request: RemoteRequest, { status, text }: Failure): BlockError {
    return ddError(this.#address, `${request.op} ${request.offset}+${request.length}`, status, printable(text));
  }

  #onClosed(error: Error | undefined): void {
    this.#closed = true;
    clearInterval(this.#watch);
    clearTimeout(this.#resyncTimer);
    const unfinished: RemoteRequest[] = [];
    const failure = this.#resync?.failure;
    for (const { id, request, say } of this.#sent.splice(0)) {
      if (!request) say?.(undefined);
      else if (id === failure?.id) this.#events?.answered(request, this.#error(request, failure));
      else unfinished.push(request);
    }
    this.#ended?.();
    this.#events?.lost(error ? messageOf(error) : 'the session ended', unfinished);
  }
}

/** Copies part of a read's data to the caller's memory. */
function place(sent: Sent, part: Uint8Array): void {
  try {
    sent.request!.buffers!.copyFrom(part, sent.got);
  } catch (error) {
    sent.fault ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
  }
}
