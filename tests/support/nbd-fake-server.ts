/**
 * A scriptable NBD server. It negotiates as its terms say, even falsely. It passes each request to
 * a function of the test, which answers with any bytes, or not at all.
 */
import {
  NbdCommand,
  CommandFlag,
  Info,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_MAGIC,
  NBD_OPTION_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  Option,
  OptionReply,
  ReplyFlag,
  ReplyType,
  TransmissionFlag,
  baseAllocation,
  sessionContext,
} from '../../src/protocol/nbd/spec.js';
import { memoryDialer, type Cut, type MemoryStream } from './stream-pair.js';
import { u16, u32, u64 } from './numbers.js';

export interface FakeTerms {
  /** Handshake flags; default: fixed newstyle and no zeroes. */
  handshake: number;
  size: number;
  flags: number;
  structured: boolean;
  extended: boolean;
  /** True if NBD_OPT_GO is known. */
  go: boolean;
  allocation: boolean;
  /** STATE of farbus:session; undefined for a server that does not know sessions. */
  state: string | undefined;
  /** Minimum, preferred and maximum block size; undefined: not announced. */
  blockSizes: readonly [number, number, number] | undefined;
  /** Names that NBD_OPT_LIST returns; undefined: the option is unknown. */
  list: readonly string[] | undefined;
  /** Errors to send instead of answers: by option code, the reply type and text. */
  refuse: Readonly<Record<number, { type: number; text: string }>>;
}

const everything =
  TransmissionFlag.hasFlags |
  TransmissionFlag.sendFlush |
  TransmissionFlag.sendFua |
  TransmissionFlag.sendTrim |
  TransmissionFlag.sendWriteZeroes |
  TransmissionFlag.sendFastZero;

export const usualTerms: FakeTerms = {
  handshake: 3,
  size: 1 << 20,
  flags: everything,
  structured: true,
  extended: false,
  go: true,
  allocation: true,
  state: undefined,
  blockSizes: [512, 4096, 1 << 25],
  list: undefined,
  refuse: {},
};

export const allocationId = 7;

export interface FakeRequest {
  readonly connection: FakeConnection;
  readonly type: number;
  readonly flags: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
  readonly payload: Uint8Array;
}

export type Answer = (request: FakeRequest) => void;

/** One connection of the fake server. */
export class FakeConnection {
  readonly stream: MemoryStream;
  readonly #server: FakeServer;
  /** Received options, in order. */
  readonly options: number[] = [];
  exportName = '';
  session: string | undefined;
  disconnected = false;
  /** True once extended headers are negotiated. */
  extended = false;
  #received: Uint8Array = new Uint8Array(0);
  #phase: 'flags' | 'options' | 'transmission' = 'flags';

  constructor(server: FakeServer, stream: MemoryStream) {
    this.#server = server;
    this.stream = stream;
    stream.attach({
      data: (chunk) => this.#data(chunk),
      drain: () => undefined,
      closed: () => undefined,
    });
    this.send(u64(NBD_MAGIC), u64(NBD_OPTION_MAGIC), u16(server.terms.handshake));
  }

  send(...parts: Uint8Array[]): void {
    this.stream.write([join(...parts)]);
  }

  simple(request: FakeRequest, error = 0, data: Uint8Array = new Uint8Array(0)): void {
    this.send(simpleReply(request.cookie, error, data));
  }

  chunk(
    request: FakeRequest,
    type: number,
    payload: Uint8Array = new Uint8Array(0),
    flags: number = ReplyFlag.done,
  ): void {
    if (this.extended) this.send(extendedChunk(request, type, payload, flags));
    else this.send(structuredChunk(request.cookie, type, payload, flags));
  }

  /** Sends data of a read, from `at` bytes after its start. */
  data(request: FakeRequest, at: number, data: Uint8Array, flags: number = ReplyFlag.done): void {
    this.chunk(request, ReplyType.offsetData, join(u64(BigInt(request.offset + at)), data), flags);
  }

  #data(chunk: Uint8Array): void {
    this.#received = join(this.#received, chunk);
    while (this.#step());
  }

  #take(length: number): Uint8Array {
    const bytes = this.#received.slice(0, length);
    this.#received = this.#received.slice(length);
    return bytes;
  }

  #step(): boolean {
    const view = new DataView(this.#received.buffer, this.#received.byteOffset, this.#received.length);
    if (this.#phase === 'flags') {
      if (view.byteLength < 4) return false;
      this.#take(4);
      this.#phase = 'options';
      return true;
    }
    if (this.#phase === 'options') {
      if (view.byteLength < 16 || view.byteLength < 16 + view.getUint32(12)) return false;
      const code = view.getUint32(8);
      this.#take(16);
      this.#option(code, this.#take(view.getUint32(12)));
      return true;
    }
    const size = this.extended ? 32 : 28;
    if (view.byteLength < size) return false;
    if (view.getUint32(0) !== (this.extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC)) {
      throw new Error('the client sent something that is no request');
    }
    const type = view.getUint16(6);
    const length = this.extended ? Number(view.getBigUint64(24)) : view.getUint32(24);
    const flagged = (view.getUint16(4) & CommandFlag.payloadLength) !== 0;
    const payloadLength = (this.extended ? flagged : type === NbdCommand.write) ? length : 0;
    if (view.byteLength < size + payloadLength) return false;
    const request = {
      connection: this,
      type,
      flags: view.getUint16(4),
      cookie: view.getBigUint64(8),
      offset: Number(view.getBigUint64(16)),
      length,
    };
    this.#take(size);
    const payload = this.#take(payloadLength);
    if (type === NbdCommand.disconnect) {
      this.disconnected = true;
      this.stream.end();
      return false;
    }
    this.#server.requests.push({ ...request, payload });
    this.#server.answer({ ...request, payload });
    return true;
  }

  #option(code: number, data: Uint8Array): void {
    this.options.push(code);
    const { terms } = this.#server;
    const reply = (type: number, body: Uint8Array = new Uint8Array(0)): void =>
      this.send(optionReply(code, type, body));
    const refused = terms.refuse[code];
    if (refused) return reply(refused.type, new TextEncoder().encode(refused.text));
    switch (code) {
      case Option.structuredReply:
        return reply(terms.structured ? OptionReply.ack : OptionReply.errUnsupported);
      case Option.extendedHeaders:
        this.extended = terms.extended;
        return reply(terms.extended ? OptionReply.ack : OptionReply.errUnsupported);
      case Option.setMetaContext:
        return this.#contexts(data, reply);
      case Option.go: {
        if (!terms.go) return reply(OptionReply.errUnsupported);
        const view = new DataView(data.buffer, data.byteOffset);
        this.exportName = new TextDecoder().decode(data.subarray(4, 4 + view.getUint32(0)));
        reply(OptionReply.info, join(u16(Info.export), u64(BigInt(terms.size)), u16(terms.flags)));
        if (terms.blockSizes) reply(OptionReply.info, join(u16(Info.blockSize), ...terms.blockSizes.map(u32)));
        reply(OptionReply.ack);
        this.#phase = 'transmission';
        return;
      }
      case Option.exportName:
        this.exportName = new TextDecoder().decode(data);
        this.send(u64(BigInt(terms.size)), u16(terms.flags), new Uint8Array(terms.handshake & 2 ? 0 : 124));
        this.#phase = 'transmission';
        return;
      case Option.list: {
        if (!terms.list) return reply(OptionReply.errUnsupported);
        for (const name of terms.list) {
          const bytes = new TextEncoder().encode(name);
          reply(OptionReply.server, join(u32(bytes.length), bytes, new TextEncoder().encode('described')));
        }
        return reply(OptionReply.ack);
      }
      case Option.abort:
        reply(OptionReply.ack);
        this.stream.end();
        return;
      default:
        reply(OptionReply.errUnsupported);
    }
  }

  #contexts(data: Uint8Array, reply: (type: number, body?: Uint8Array) => void): void {
    const text = new TextDecoder('latin1').decode(data);
    const { terms } = this.#server;
    if (terms.allocation && text.includes(baseAllocation)) {
      reply(OptionReply.metaContext, join(u32(allocationId), new TextEncoder().encode(baseAllocation)));
    }
    const at = text.indexOf(sessionContext);
    if (terms.state !== undefined && at >= 0) {
      this.session = text.slice(at + sessionContext.length, at + sessionContext.length + 36);
      const name = `${sessionContext}${this.session}/${terms.state}`;
      reply(OptionReply.metaContext, join(u32(99), new TextEncoder().encode(name)));
    }
    reply(OptionReply.ack);
  }
}

export class FakeServer {
  terms: FakeTerms;
  /** Handles a request. Default: a working disk of zeroes. */
  answer: Answer = (request) => this.serve(request);
  readonly connections: FakeConnection[] = [];
  readonly requests: FakeRequest[] = [];
  /** The disk's content, with all writes so far. */
  readonly content: Uint8Array;
  /** While set, connections are refused. */
  down = false;

  constructor(terms: Partial<FakeTerms> = {}) {
    this.terms = { ...usualTerms, ...terms };
    this.content = new Uint8Array(Math.min(this.terms.size, 16 << 20));
  }

  get last(): FakeConnection {
    return this.connections.at(-1)!;
  }

  dialer(cut?: Cut) {
    return memoryDialer((stream) => {
      if (this.down) throw new Error('connection refused');
      this.connections.push(new FakeConnection(this, stream));
    }, cut);
  }

  /** Answers as a correct server does. */
  serve(request: FakeRequest): void {
    const { connection, type, offset, length, payload } = request;
    if (type === NbdCommand.write) this.content.set(payload, offset);
    if (type === NbdCommand.writeZeroes) this.content.fill(0, offset, offset + length);
    if (type === NbdCommand.read) {
      const data = this.content.slice(offset, offset + length);
      if (this.terms.structured || connection.extended) connection.data(request, 0, data);
      else connection.simple(request, 0, data);
    } else if (type === NbdCommand.blockStatus) {
      const wide = join(u32(allocationId), u32(1), u64(BigInt(length)), u64(0n));
      if (connection.extended) connection.chunk(request, ReplyType.blockStatusExtended, wide);
      else connection.chunk(request, ReplyType.blockStatus, join(u32(allocationId), u32(length), u32(0)));
    } else if (connection.extended) {
      connection.chunk(request, ReplyType.none);
    } else {
      connection.simple(request);
    }
  }
}

export function simpleReply(cookie: bigint, error: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  return join(u32(NBD_SIMPLE_REPLY_MAGIC), u32(error), u64(cookie), data);
}

export function structuredChunk(cookie: bigint, type: number, payload: Uint8Array, flags: number): Uint8Array {
  return join(u32(NBD_STRUCTURED_REPLY_MAGIC), u16(flags), u16(type), u64(cookie), u32(payload.length), payload);
}

export function extendedChunk(
  { cookie, offset }: Pick<FakeRequest, 'cookie' | 'offset'>,
  type: number,
  payload: Uint8Array,
  flags: number,
): Uint8Array {
  const head = join(u32(NBD_EXTENDED_REPLY_MAGIC), u16(flags), u16(type), u64(cookie), u64(BigInt(offset)));
  return join(head, u64(BigInt(payload.length)), payload);
}

export function optionReply(code: number, type: number, body: Uint8Array): Uint8Array {
  return join(u64(NBD_OPTION_REPLY_MAGIC), u32(code), u32(type), u32(body.length), body);
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
