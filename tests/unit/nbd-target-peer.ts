/**
 * A client of the NBD target made of bytes: without a socket or our initiator, it sends exactly
 * what the test says.
 */
import { silent, ThrottledLogger } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { Exports } from '../../src/export/exports.js';
import type { ByteStream, StreamEvents } from '../../src/network/stream.js';
import {
  CommandFlag,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_OPTION_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  Option,
  OptionReply,
  ReplyFlag,
} from '../../src/protocol/nbd/spec.js';
import type { TargetLimits } from '../../src/protocol/nbd/target/limits.js';
import { SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { NbdTarget } from '../../src/protocol/nbd/target/target.js';
import { u32 } from '../support/numbers.js';

/** The target's side of a connection whose other side is the test. */
export class TestStream implements ByteStream {
  readonly peer = 'the test';
  events: StreamEvents | undefined;
  paused = false;
  ended = false;
  destroyed = false;
  /** While set, the stream takes nothing from the target. */
  blocked = false;
  received = new Uint8Array(0);
  #waiting: Uint8Array[] = [];
  #closed = false;
  /** Called after every change. */
  changed: () => void = () => undefined;

  get pending(): number {
    return this.#waiting.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  attach(events: StreamEvents): void {
    this.events = events;
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.destroyed || this.ended) return true;
    this.#waiting.push(...chunks);
    if (this.blocked) return false;
    this.take();
    return true;
  }

  /**
   * Takes the waiting bytes. They are copied only now, so that a target that reuses its memory too
   * early is detected.
   */
  take(): void {
    const size = this.received.length;
    const joined = new Uint8Array(size + this.pending);
    joined.set(this.received);
    let at = size;
    for (const chunk of this.#waiting.splice(0)) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    this.received = joined;
    this.changed();
  }

  unblock(): void {
    this.blocked = false;
    this.take();
    this.events?.drain();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    queueMicrotask(() => this.changed());
  }

  end(): void {
    this.ended = true;
    this.take();
    this.close();
  }

  destroy(): void {
    this.destroyed = true;
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    queueMicrotask(() => {
      this.events?.closed();
      this.changed();
    });
  }
}

export interface OptionAnswer {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface Chunk {
  readonly cookie: bigint;
  readonly type: number;
  readonly flags: number;
  readonly data: Uint8Array;
}

export interface Reply {
  readonly error: number;
  readonly text: string;
  readonly chunks: readonly Chunk[];
  readonly data: Uint8Array;
}

export interface RequestFields {
  readonly command: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
  /** A payload. With extended headers, the payload flag is set too. */
  readonly data?: Uint8Array;
}

/** Exports of one device for a test. */
export function exportsOf(devices: Record<string, BlockDevice>, state = ''): Exports {
  const exports = new Exports(state);
  for (const [name, device] of Object.entries(devices)) exports.add({ name, device, description: `the disk ${name}` });
  return exports;
}

export class Peer {
  stream = new TestStream();
  readonly target: NbdTarget;
  /** Length of the pieces in which bytes are sent. */
  pieces = Infinity;
  extended = false;
  #at = 0;

  constructor(exports: Exports, limits: Partial<TargetLimits> = {}, pool = new SlabPool()) {
    this.target = new NbdTarget(this.stream, { exports, pool, log: new ThrottledLogger(silent), limits });
  }

  /** Continues on another stream of the target (TLS). */
  move(stream: TestStream): void {
    this.stream = stream;
    this.#at = 0;
  }

  get closed(): boolean {
    return this.stream.destroyed || this.stream.ended;
  }

  /** Sends bytes. Waits while the target does not read. */
  async send(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !this.closed;) {
      await this.until(() => !this.stream.paused || this.closed);
      if (this.closed) return;
      const piece = bytes.slice(at, Math.min(bytes.length, at + this.pieces));
      at += piece.length;
      this.stream.events!.data(piece);
      // Bytes passed to `data` are valid during the call only: overwrite them.
      piece.fill(0xee);
    }
  }

  /** Waits until a condition holds. It is checked at every change of the stream. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition()) return;
        this.stream.changed = () => undefined;
        resolve();
      };
      this.stream.changed = look;
      look();
    });
  }

  /** Resolves with the next `length` bytes from the target. Rejects if it closes before that. */
  async read(length: number): Promise<Uint8Array> {
    const end = this.#at + length;
    await this.until(() => this.stream.received.length >= end || this.closed);
    if (this.stream.received.length < end) throw new Error('the target closed the connection');
    const bytes = this.stream.received.slice(this.#at, end);
    this.#at = end;
    return bytes;
  }

  async greet(flags = 3): Promise<void> {
    await this.read(18);
    await this.send(u32(flags));
  }

  /** Sends an option and reads its replies up to the final one. */
  async option(option: number, data: Uint8Array = new Uint8Array(0)): Promise<OptionAnswer[]> {
    await this.send(optionBytes(option, data));
    const answers: OptionAnswer[] = [];
    for (;;) {
      const answer = await this.optionAnswer(option);
      answers.push(answer);
      if (answer.type === OptionReply.ack || answer.type >= OptionReply.errUnsupported) return answers;
    }
  }

  async optionAnswer(option: number): Promise<OptionAnswer> {
    const header = view(await this.read(20));
    if (header.getBigUint64(0) !== NBD_OPTION_REPLY_MAGIC) throw new Error('not an option reply');
    if (header.getUint32(8) !== option) throw new Error('a reply to another option');
    return { type: header.getUint32(12), data: await this.read(header.getUint32(16)) };
  }

  /** Does the whole handshake. */
  async enter(
    name = '',
    { structured = true, extended = false, contexts = [] as string[] } = {},
  ): Promise<OptionAnswer[]> {
    await this.greet();
    this.extended = extended;
    if (extended) await this.option(Option.extendedHeaders);
    else if (structured) await this.option(Option.structuredReply);
    if (contexts.length > 0) await this.option(Option.setMetaContext, metaData(name, contexts));
    const answers = await this.option(Option.go, infoData(name, [3]));
    if (answers.at(-1)!.type !== OptionReply.ack) throw new Error(`refused: ${text(answers.at(-1)!.data)}`);
    return answers;
  }

  request(fields: RequestFields): Promise<void> {
    return this.send(this.extended ? extendedBytes(fields) : requestBytes(fields));
  }

  /** Sends a request and reads its reply. No other request may be in flight. */
  async ask(fields: RequestFields): Promise<Reply> {
    await this.request(fields);
    return this.reply(fields);
  }

  /** Reads the next reply, which must belong to this request. */
  async reply(to: RequestFields): Promise<Reply> {
    const chunks: Chunk[] = [];
    let error = 0;
    let message = '';
    for (;;) {
      const magic = view(await this.read(4)).getUint32(0);
      if (magic === NBD_SIMPLE_REPLY_MAGIC) {
        const rest = view(await this.read(12));
        checkCookie(rest.getBigUint64(4), to);
        error = rest.getUint32(0);
        const data = await this.read(to.command === 0 && error === 0 ? Number(to.length ?? 0) : 0);
        return { error, text: '', chunks, data };
      }
      if (magic !== (this.extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC)) {
        throw new Error('not a reply');
      }
      const rest = view(await this.read(this.extended ? 28 : 16));
      const flags = rest.getUint16(0);
      const type = rest.getUint16(2);
      checkCookie(rest.getBigUint64(4), to);
      if (this.extended && rest.getBigUint64(12) !== BigInt(to.offset ?? 0)) throw new Error('another offset');
      const data = await this.read(this.extended ? Number(rest.getBigUint64(20)) : rest.getUint32(12));
      chunks.push({ cookie: rest.getBigUint64(4), type, flags, data });
      if (type & 0x8000) {
        error = view(data).getUint32(0);
        message = text(data.subarray(6, 6 + view(data).getUint16(4)));
      }
      if (!(flags & ReplyFlag.done)) continue;
      const content = chunks.filter((chunk) => chunk.type === 1).map((chunk) => chunk.data.subarray(8));
      return { error, text: message, chunks, data: join(content) };
    }
  }
}

function checkCookie(cookie: bigint, to: RequestFields): void {
  if (cookie !== (to.cookie ?? 1n)) throw new Error(`a reply to request ${cookie}`);
}

export function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

export function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function string(value: string): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  return join([u32(bytes.length), bytes]);
}

export function optionBytes(option: number, data: Uint8Array): Uint8Array {
  const header = new Uint8Array(16);
  view(header).setBigUint64(0, NBD_OPTION_MAGIC);
  view(header).setUint32(8, option);
  view(header).setUint32(12, data.length);
  return join([header, data]);
}

export function infoData(name: string, requests: readonly number[]): Uint8Array {
  const numbers = new Uint8Array(2 + 2 * requests.length);
  view(numbers).setUint16(0, requests.length);
  requests.forEach((request, i) => view(numbers).setUint16(2 + 2 * i, request));
  return join([string(name), numbers]);
}

export function metaData(name: string, queries: readonly string[]): Uint8Array {
  return join([string(name), u32(queries.length), ...queries.map(string)]);
}

export function requestBytes(fields: RequestFields): Uint8Array {
  const { command, flags = 0, cookie = 1n, offset = 0, data } = fields;
  const header = new Uint8Array(28);
  const h = view(header);
  h.setUint32(0, NBD_REQUEST_MAGIC);
  h.setUint16(4, flags);
  h.setUint16(6, command);
  h.setBigUint64(8, cookie);
  h.setBigUint64(16, BigInt(offset));
  h.setUint32(24, Number(fields.length ?? data?.length ?? 0));
  return data ? join([header, data]) : header;
}

/** A request with an extended header. */
export function extendedBytes(fields: RequestFields): Uint8Array {
  const { command, flags = 0, cookie = 1n, offset = 0, data } = fields;
  const header = new Uint8Array(32);
  const h = view(header);
  h.setUint32(0, NBD_EXTENDED_REQUEST_MAGIC);
  h.setUint16(4, data ? flags | CommandFlag.payloadLength : flags);
  h.setUint16(6, command);
  h.setBigUint64(8, cookie);
  h.setBigUint64(16, BigInt(offset));
  h.setBigUint64(24, BigInt(fields.length ?? data?.length ?? 0));
  return data ? join([header, data]) : header;
}
