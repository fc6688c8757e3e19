/**
 * NBD servers that violate the protocol or make no progress, each on its own TCP port. A client's
 * process has to survive them. They keep a connection open, and continue sending, after the client
 * has half-closed it.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import {
  Info,
  NBD_MAGIC,
  NBD_OPTION_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  Option,
  OptionReply,
} from '../../src/protocol/nbd/spec.js';

/**
 * The behaviour of the server:
 * `greeting`: sends a byte of the greeting now and then.
 * `options`: endless replies to one option.
 * `refusal`: refuses the export, then sends endless bytes.
 * `silence`: an export that answers no request.
 * `trickle`: sends a byte of a reply now and then.
 * `chunks`: endless chunks of one reply.
 * `status`: endless block status.
 * `stranger`: replies with unknown cookies.
 * `words`: errors whose text contains terminal escape sequences.
 */
export type Hostility =
  'greeting' | 'options' | 'refusal' | 'silence' | 'trickle' | 'chunks' | 'status' | 'stranger' | 'words';

const size = 1 << 20;
const everyMs = 50;
const structuredMagic = 0x668e33ef;

export class HostileNbd {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Number of requests received after the handshake. */
  requests = 0;
  #asked: () => void = () => undefined;

  private constructor(how: Hostility) {
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      this.#serve(socket, how);
    });
  }

  static async start(how: Hostility): Promise<HostileNbd> {
    const hostile = new HostileNbd(how);
    await new Promise<void>((resolve) => hostile.#server.listen(0, '127.0.0.1', resolve));
    return hostile;
  }

  get uri(): string {
    return `nbd://127.0.0.1:${(this.#server.address() as AddressInfo).port}/x`;
  }

  /** Resolves when a request has arrived; for `greeting`, when a client has connected. */
  asked(): Promise<void> {
    return this.requests > 0 ? Promise.resolve() : new Promise((resolve) => (this.#asked = resolve));
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(socket: Socket, how: Hostility): void {
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(NBD_MAGIC, 0);
    greeting.writeBigUInt64BE(NBD_OPTION_MAGIC, 8);
    greeting.writeUInt16BE(3, 16);
    if (how === 'greeting') {
      this.#came();
      return again(socket, () => greeting.subarray(0, 1), everyMs);
    }
    socket.write(greeting);
    let got = Buffer.alloc(0);
    let phase: 'flags' | 'options' | 'requests' = 'flags';
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      for (;;) {
        if (phase === 'flags') {
          if (got.length < 4) return;
          got = got.subarray(4);
          phase = 'options';
        } else if (phase === 'options') {
          if (got.length < 16 || got.length < 16 + got.readUInt32BE(12)) return;
          const option = got.readUInt32BE(8);
          got = got.subarray(16 + got.readUInt32BE(12));
          if (this.#option(socket, option, how)) phase = 'requests';
        } else {
          if (got.length < 28) return;
          const request = got.subarray(0, 28);
          got = got.subarray(28);
          this.#came();
          answer(socket, request, how);
        }
      }
    });
  }

  /**
   * Answers an option.
   * @returns true if transmission begins
   */
  #option(socket: Socket, option: number, how: Hostility): boolean {
    const say = (type: number, data = Buffer.alloc(0)): void => void socket.write(optionReply(option, type, data));
    switch (option) {
      case Option.structuredReply:
        say(OptionReply.ack);
        return false;
      case Option.setMetaContext: {
        const context = Buffer.concat([Buffer.from([0, 0, 0, 1]), Buffer.from('base:allocation')]);
        if (how === 'options') {
          this.#came();
          again(socket, () => optionReply(option, OptionReply.metaContext, Buffer.alloc(8000, 1)));
        } else {
          say(OptionReply.metaContext, context);
          say(OptionReply.ack);
        }
        return false;
      }
      case Option.go: {
        if (how === 'refusal') {
          say(OptionReply.errUnknown);
          return false;
        }
        const facts = Buffer.alloc(12);
        facts.writeUInt16BE(Info.export, 0);
        facts.writeBigUInt64BE(BigInt(size), 2);
        facts.writeUInt16BE(1 | 4, 10);
        say(OptionReply.info, facts);
        say(OptionReply.ack);
        return true;
      }
      case Option.list:
        say(OptionReply.errUnsupported);
        again(socket, () => Buffer.alloc(8000, 1));
        return false;
      default:
        say(OptionReply.errUnsupported);
        return false;
    }
  }

  #came(): void {
    this.requests++;
    this.#asked();
  }
}

function answer(socket: Socket, request: Buffer, how: Hostility): void {
  const offset = request.readBigUInt64BE(16);
  const length = request.readUInt32BE(24);
  const chunk = (type: number, flags: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(20);
    head.writeUInt32BE(structuredMagic, 0);
    head.writeUInt16BE(flags, 4);
    head.writeUInt16BE(type, 6);
    request.copy(head, 8, 8, 16);
    head.writeUInt32BE(payload.length, 16);
    return Buffer.concat([head, payload]);
  };
  const at = Buffer.alloc(8);
  at.writeBigUInt64BE(offset);
  switch (how) {
    case 'trickle':
      socket.write(chunk(1, 1, Buffer.concat([at, Buffer.alloc(length)])).subarray(0, 28));
      return again(socket, () => Buffer.alloc(1), everyMs);
    case 'chunks':
      return again(socket, () => chunk(0x8001, 0, Buffer.from([0, 0, 0, 5, 0, 0])));
    case 'status':
      return again(socket, () => chunk(5, 0, Buffer.concat([Buffer.from([0, 0, 0, 9]), Buffer.alloc(80_000, 1)])));
    case 'words': {
      const text = Buffer.from(`\u001b[31m\u009b2J\u202e${'E'.repeat(3000)}`);
      const head = Buffer.from([0, 0, 0, 5, text.length >> 8, text.length & 0xff]);
      return void socket.write(chunk(0x8001, 1, Buffer.concat([head, text])));
    }
    case 'stranger':
      request.writeUInt32BE(0xffff_ffff, 12);
      return again(socket, () => chunk(0, 1, Buffer.alloc(0)));
    default:
  }
}

/** Sends bytes as long as the peer takes them: as fast as it does, or every `everyMs` ms. */
function again(socket: Socket, bytes: () => Buffer, everyMs = 0): void {
  socket.setMaxListeners(0); // each answer has its own timer
  const timer = setInterval(() => {
    while (!socket.destroyed && socket.write(bytes()) && everyMs === 0);
  }, everyMs || 1);
  socket.once('close', () => clearInterval(timer));
}

function optionReply(option: number, type: number, data: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(NBD_OPTION_REPLY_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type >>> 0, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}
