/**
 * An SFTP connection: requests with ids, answers in any order ([SFTP] 3 and 4). Data of reads goes
 * from the stream's buffer straight to its destination. Requests that are made together are sent
 * together.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import type { ByteStream } from '../../network/stream.js';
import { Packet, version } from './spec.js';
import { FieldReader, PacketReader, PacketWriter, SftpProtocolError } from './wire.js';

/** An answer that contains no file data. */
export interface Answer {
  readonly type: number;
  readonly fields: FieldReader;
}

/** Receives the answer to one request. */
export interface Waiter {
  /** Receives part of the data of a read. If absent, data is a protocol error. */
  data?(bytes: Uint8Array, at: number): void;
  /** Longest data that the answer may contain, in bytes. */
  readonly most?: number;
  /** All data has arrived, `length` bytes. */
  dataEnd?(length: number): void;
  answer(answer: Answer): void;
  /** The connection is lost. */
  lost?(reason: Error): void;
}

export interface ConnectionEvents {
  drain(): void;
  /** The connection is closed. */
  closed(reason: Error | undefined): void;
}

interface Expected {
  readonly waiter: Waiter;
  length: number;
}

export class SftpConnection {
  /** The server's extensions with their versions ([SFTP] 4). */
  readonly extensions: Map<string, string> = new Map();
  readonly #stream: ByteStream;
  readonly #expected = new Map<number, Expected>();
  readonly #reader: PacketReader;
  #lastId = 0;
  #unsent: Uint8Array[] = [];
  #flushing = false;
  #blocked = false;
  #closed = false;
  #greeted: ((fields: FieldReader) => void) | undefined;
  #events: ConnectionEvents = { drain: () => undefined, closed: () => undefined };
  #broken: Error | undefined;

  constructor(stream: ByteStream) {
    this.#stream = stream;
    this.#reader = new PacketReader({
      packet: (type, fields) => this.#packet(type, fields),
      dataStart: (id, length) => this.#dataStart(id, length),
      data: (id, bytes, at) => this.#expected.get(id)!.waiter.data!(bytes, at),
      dataEnd: (id) => this.#dataEnd(id),
    });
    stream.attach({
      data: (chunk) => this.#receive(chunk),
      drain: () => {
        this.#blocked = false;
        this.#events.drain();
      },
      closed: (error) => {
        this.#closed = true;
        const reason = this.#broken ?? error;
        for (const { waiter } of this.#expected.values())
          waiter.lost?.(reason ?? new Error('the connection was closed'));
        this.#expected.clear();
        this.#events.closed(reason);
      },
    });
  }

  /** True if the stream takes no more at present. */
  get blocked(): boolean {
    return this.#blocked;
  }

  get closed(): boolean {
    return this.#closed;
  }

  listen(events: ConnectionEvents): void {
    this.#events = events;
  }

  /** Negotiates the version ([SFTP] 4). Rejects with an error whose message is for users. */
  greet(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = (error: Error): void => {
        signal.removeEventListener('abort', abort);
        reject(error);
      };
      const abort = (): void => stop(signal.reason instanceof Error ? signal.reason : new Error('given up'));
      signal.addEventListener('abort', abort);
      this.#events = {
        drain: () => undefined,
        closed: (error) => stop(error ?? new FarbusError('the SFTP server ended at once')),
      };
      this.#greeted = (fields) => {
        if (fields.u32() !== version) return stop(new FarbusError('the SFTP server does not speak version 3'));
        // Limits the memory that a server can make us use.
        for (let count = 0; fields.left > 0 && count < 64; count++) this.extensions.set(fields.text(), fields.text());
        signal.removeEventListener('abort', abort);
        resolve();
      };
      this.#write([new PacketWriter(Packet.init).u32(version).done()]);
    });
  }

  /**
   * Sends a request.
   * @param fill appends the fields after the request's id
   * @param payload sent after those fields as a separate chunk; must not change until the answer
   */
  send(type: number, waiter: Waiter, fill: (packet: PacketWriter) => PacketWriter, payload?: Uint8Array): void {
    do this.#lastId = (this.#lastId + 1) >>> 0;
    while (this.#expected.has(this.#lastId));
    this.#expected.set(this.#lastId, { waiter, length: 0 });
    const packet = fill(new PacketWriter(type).u32(this.#lastId));
    if (payload) this.#write([packet.u32(payload.length).done(payload.length), payload]);
    else this.#write([packet.done()]);
  }

  /**
   * Sends a request and resolves with its answer, which contains no file data. Rejects if the
   * connection is lost.
   */
  ask(type: number, fill: (packet: PacketWriter) => PacketWriter): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('the connection is closed'));
      this.send(type, { answer: resolve, lost: reject }, fill);
    });
  }

  end(): void {
    this.#flush();
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  #receive(chunk: Uint8Array): void {
    if (this.#broken) return;
    try {
      this.#reader.feed(chunk);
    } catch (error) {
      this.#broken = error instanceof Error ? error : new Error(messageOf(error));
      this.#stream.destroy();
    }
  }

  #packet(type: number, fields: FieldReader): void {
    if (this.#greeted) {
      if (type !== Packet.version)
        throw new SftpProtocolError('the program that answers is no SFTP server, or the login shell prints text');
      const greeted = this.#greeted;
      this.#greeted = undefined;
      return greeted(fields);
    }
    const expected = this.#expect(fields.u32());
    expected.waiter.answer({ type, fields });
  }

  #dataStart(id: number, length: number): void {
    const expected = this.#greeted ? undefined : this.#expected.get(id);
    if (!expected?.waiter.data) throw new SftpProtocolError('the server sent data that was not requested');
    if (length > (expected.waiter.most ?? 0))
      throw new SftpProtocolError('the server sent more data than was asked for');
    expected.length = length;
  }

  #dataEnd(id: number): void {
    const { waiter, length } = this.#expect(id);
    waiter.dataEnd?.(length);
  }

  #expect(id: number): Expected {
    const expected = this.#expected.get(id);
    if (!expected) throw new SftpProtocolError('the server answered a request that was not sent');
    this.#expected.delete(id);
    return expected;
  }

  #write(chunks: readonly Uint8Array[]): void {
    this.#unsent.push(...chunks);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    const chunks = this.#unsent;
    if (chunks.length === 0) return;
    this.#unsent = [];
    this.#blocked = !this.#stream.write(chunks);
  }
}
