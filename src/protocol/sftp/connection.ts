/**
 * An SFTP connection: requests by number, answers in any order ([SFTP] 3 and 4). Data of reads goes from the stream's
 * buffer to where it belongs; requests that are made together are sent together.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import type { ByteStream } from '../../network/stream.js';
import { Packet, version } from './spec.js';
import { FieldReader, PacketReader, PacketWriter, SftpProtocolError } from './wire.js';

/** An answer without file data. */
export interface Answer {
  readonly type: number;
  readonly fields: FieldReader;
}

/** Who waits for an answer. */
export interface Waiter {
  /** A part of the data that a read gets. Where it is not there, data is a breach of the protocol. */
  data?(bytes: Uint8Array, at: number): void;
  /** Longest data that it may get, in bytes. */
  readonly most?: number;
  /** All data, `length` bytes, has arrived. */
  dataEnd?(length: number): void;
  answer(answer: Answer): void;
  /** The connection is gone. */
  lost?(reason: Error): void;
}

export interface ConnectionEvents {
  drain(): void;
  /** The connection is gone. */
  closed(reason: Error | undefined): void;
}

interface Expected {
  readonly waiter: Waiter;
  length: number;
}

export class SftpConnection {
  /** The server's extensions and their versions ([SFTP] 4). */
  readonly extensions: Map<string, string> = new Map();
  readonly #stream: ByteStream;
  readonly #expected = new Map<number, Expected>();
  readonly #reader: PacketReader;
  #lastId = 0;
  #outbox: Uint8Array[] = [];
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

  /** The stream likes no more at present. */
  get blocked(): boolean {
    return this.#blocked;
  }

  get closed(): boolean {
    return this.#closed;
  }

  listen(events: ConnectionEvents): void {
    this.#events = events;
  }

  /** Agrees on the version ([SFTP] 4). Rejects with an Error fit for a user. */
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
        // A bound on what a server can make us keep.
        for (let count = 0; fields.left > 0 && count < 64; count++) this.extensions.set(fields.text(), fields.text());
        signal.removeEventListener('abort', abort);
        resolve();
      };
      this.#write([new PacketWriter(Packet.init).u32(version).done()]);
    });
  }

  /**
   * Sends a request.
   * @param fill Adds what comes after its number.
   * @param payload Comes after that, by itself; its memory must not change until it is answered.
   */
  send(type: number, waiter: Waiter, fill: (packet: PacketWriter) => PacketWriter, payload?: Uint8Array): void {
    do this.#lastId = (this.#lastId + 1) >>> 0;
    while (this.#expected.has(this.#lastId));
    this.#expected.set(this.#lastId, { waiter, length: 0 });
    const packet = fill(new PacketWriter(type).u32(this.#lastId));
    if (payload) this.#write([packet.u32(payload.length).done(payload.length), payload]);
    else this.#write([packet.done()]);
  }

  /** Sends a request and waits for its answer, which has no file data. Rejects where the connection is lost. */
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
        throw new SftpProtocolError('what answers is no SFTP server, or its login shell prints');
      const greeted = this.#greeted;
      this.#greeted = undefined;
      return greeted(fields);
    }
    const expected = this.#expect(fields.u32());
    expected.waiter.answer({ type, fields });
  }

  #dataStart(id: number, length: number): void {
    const expected = this.#greeted ? undefined : this.#expected.get(id);
    if (!expected?.waiter.data) throw new SftpProtocolError('the server sent data that nobody asked for');
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
    if (!expected) throw new SftpProtocolError('the server answered what nobody asked');
    this.#expected.delete(id);
    return expected;
  }

  #write(chunks: readonly Uint8Array[]): void {
    this.#outbox.push(...chunks);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    const chunks = this.#outbox;
    if (chunks.length === 0) return;
    this.#outbox = [];
    this.#blocked = !this.#stream.write(chunks);
  }
}
