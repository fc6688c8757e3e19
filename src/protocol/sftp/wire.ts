/** Builds SFTP packets, and parses them from a stream ([SFTP] 3, [RFC 4251] 5). */
import { Packet, maxControl, maxLength } from './spec.js';

/** The server violated the protocol. Its connection can no longer be trusted. */
export class SftpProtocolError extends Error {
  override readonly name = 'SftpProtocolError';
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Builds a packet. */
export class PacketWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 5;

  constructor(type: number, room = 64) {
    this.#bytes = new Uint8Array(Math.max(room, 16));
    this.#view = new DataView(this.#bytes.buffer);
    this.#bytes[4] = type;
  }

  u32(value: number): this {
    this.#grow(4);
    this.#view.setUint32(this.#length, value);
    this.#length += 4;
    return this;
  }

  /** @param value at most 2^53 */
  u64(value: number): this {
    return this.u32(Math.floor(value / 2 ** 32)).u32(value % 2 ** 32);
  }

  bytes(value: Uint8Array): this {
    this.u32(value.length);
    this.#grow(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  text(value: string): this {
    return this.bytes(encoder.encode(value));
  }

  /** Returns the packet. `more` further bytes of it are sent separately. */
  done(more = 0): Uint8Array {
    this.#view.setUint32(0, this.#length - 4 + more);
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + more));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/**
 * Parses a packet's fields.
 * @throws SftpProtocolError if the packet is too short
 */
export class FieldReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u32(): number {
    const at = this.#take(4);
    return this.#view.getUint32(at);
  }

  /** Values above 2^53 are rounded. */
  u64(): number {
    return this.u32() * 2 ** 32 + this.u32();
  }

  bytes(): Uint8Array {
    const length = this.u32();
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  text(): string {
    return decoder.decode(this.bytes());
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.left) throw new SftpProtocolError('the server sent a packet that is too short');
    this.#at += length;
    return at;
  }
}

export interface PacketEvents {
  /** A packet without file data. The receiver may keep its array. */
  packet(type: number, fields: FieldReader): void;
  /**
   * The answer to a read begins. `length` bytes follow through {@link data}. Throws if that is too
   * long.
   */
  dataStart(id: number, length: number): void;
  /** Part of the data, `at` bytes from its start. Valid during the call only. */
  data(id: number, bytes: Uint8Array, at: number): void;
  dataEnd(id: number): void;
}

/** Number of bytes before file data: length, type, id, length of the data. */
const dataHeader = 13;

/** Parses a stream. Throws SftpProtocolError, after which it must not be used any more. */
export class PacketReader {
  readonly #events: PacketEvents;
  readonly #head = new Uint8Array(dataHeader);
  readonly #headView = new DataView(this.#head.buffer);
  #have = 0;
  /** A packet without file data that is being assembled. */
  #packet: Uint8Array | undefined;
  #filled = 0;
  /** File data that is being passed on: request id, total length (-1: none), length so far. */
  #dataId = 0;
  #dataLength = -1;
  #dataGot = 0;

  constructor(events: PacketEvents) {
    this.#events = events;
  }

  feed(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#dataLength >= 0) at += this.#feedData(chunk.subarray(at));
      else if (this.#packet) at += this.#feedPacket(this.#packet, chunk.subarray(at));
      else at += this.#feedHead(chunk.subarray(at));
    }
  }

  /** Reads the length and the type; for file data also its id and length. */
  #feedHead(chunk: Uint8Array): number {
    const isData = this.#have >= 5 && this.#head[4] === Packet.data;
    const need = isData ? dataHeader : 5;
    const part = chunk.subarray(0, need - this.#have);
    this.#head.set(part, this.#have);
    this.#have += part.length;
    if (this.#have === need) {
      if (isData) this.#beginData();
      else this.#beginPacket();
    }
    return part.length;
  }

  #beginPacket(): void {
    const length = this.#headView.getUint32(0);
    if (this.#head[4] === Packet.data) {
      if (length < dataHeader - 4 || length > maxLength + dataHeader - 4) {
        throw new SftpProtocolError(`the server sent ${length} bytes of data at once`);
      }
      return;
    }
    if (length < 1 || length > maxControl) {
      throw new SftpProtocolError(`the server sent a packet of ${length} bytes, or its login shell printed something`);
    }
    this.#packet = new Uint8Array(length - 1);
    this.#filled = 0;
    if (length === 1) this.#endPacket(this.#packet);
  }

  #feedPacket(packet: Uint8Array, chunk: Uint8Array): number {
    const part = chunk.subarray(0, packet.length - this.#filled);
    packet.set(part, this.#filled);
    this.#filled += part.length;
    if (this.#filled === packet.length) this.#endPacket(packet);
    return part.length;
  }

  #endPacket(packet: Uint8Array): void {
    this.#packet = undefined;
    this.#have = 0;
    this.#events.packet(this.#head[4]!, new FieldReader(packet));
  }

  #beginData(): void {
    const length = this.#headView.getUint32(9);
    if (length !== this.#headView.getUint32(0) - (dataHeader - 4)) {
      throw new SftpProtocolError('the server sent data whose length is not that of its packet');
    }
    this.#dataId = this.#headView.getUint32(5);
    this.#events.dataStart(this.#dataId, length);
    this.#dataLength = length;
    this.#dataGot = 0;
    if (length === 0) this.#endData();
  }

  #feedData(chunk: Uint8Array): number {
    const part = chunk.subarray(0, this.#dataLength - this.#dataGot);
    this.#events.data(this.#dataId, part, this.#dataGot);
    this.#dataGot += part.length;
    if (this.#dataGot === this.#dataLength) this.#endData();
    return part.length;
  }

  #endData(): void {
    this.#dataLength = -1;
    this.#have = 0;
    this.#events.dataEnd(this.#dataId);
  }
}
