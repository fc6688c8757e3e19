/**
 * Removes the mask from the frames of a WebSocket client (RFC 6455 §5.3) before the `ws` package
 * sees them. `ws` does that byte by byte, which takes most of the time of a long transfer; here it
 * is done four bytes at a time (measured: bench/browser-lend.mjs).
 *
 * The bytes are changed in place: the payload is unmasked, and the mask in the header is set to 0,
 * which leaves a payload as it is. So a reader of the frames finds the same payload.
 *
 * Not here: any check of a frame. `ws` makes them, and refuses what this class passes on.
 */

/** Bytes of a header before the extended length and the mask. */
const shortHeader = 2;
const maskSize = 4;

/** Removes the masks from the bytes of one connection, in order. */
export class Unmasker {
  /** Bytes of the header so far, without the mask. */
  readonly #header: number[] = [];
  /** The mask of the frame. Its first byte is for the payload's first byte. */
  readonly #mask = new Uint8Array(maskSize);
  #maskBytes = 0;
  /** Bytes of the payload that are still to come; undefined within a header. */
  #left: number | undefined;
  /** Position in the payload, modulo 4. */
  #phase = 0;

  /** Changes the next bytes of the connection in place. */
  receive(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#left === undefined) {
        this.#headerByte(chunk, at++);
        continue;
      }
      const end = Math.min(chunk.length, at + this.#left);
      unmask(chunk, at, end, this.#mask, this.#phase);
      this.#phase = (this.#phase + end - at) % maskSize;
      this.#left -= end - at;
      at = end;
      if (this.#left === 0) this.#left = undefined;
    }
  }

  #headerByte(chunk: Uint8Array, at: number): void {
    const header = this.#header;
    if (header.length < shortHeader || header.length < headerSize(header[1]!)) header.push(chunk[at]!);
    else {
      this.#mask[this.#maskBytes++] = chunk[at]!;
      chunk[at] = 0;
    }
    if (header.length < shortHeader || header.length < headerSize(header[1]!)) return;
    const masked = (header[1]! & 0x80) !== 0;
    if (masked && this.#maskBytes < maskSize) return;
    if (!masked) this.#mask.fill(0);
    const length = payloadLength(header);
    this.#left = length === 0 ? undefined : length;
    header.length = this.#maskBytes = this.#phase = 0;
  }
}

/** Length of a header without the mask, by its second byte. */
function headerSize(second: number): number {
  const length = second & 0x7f;
  return shortHeader + (length === 127 ? 8 : length === 126 ? 2 : 0);
}

function payloadLength(header: readonly number[]): number {
  const extended = header.slice(shortHeader);
  if (extended.length === 0) return header[1]! & 0x7f;
  return extended.reduce((length, byte) => length * 256 + byte, 0);
}

/** XORs bytes [from, to) with the mask, of which byte `phase` is for the first one. */
function unmask(bytes: Uint8Array, from: number, to: number, mask: Uint8Array, phase: number): void {
  let at = from;
  const aligned = Math.min(to, at + ((maskSize - ((bytes.byteOffset + at) % maskSize)) % maskSize));
  for (; at < aligned; at++) bytes[at] = bytes[at]! ^ mask[phase++ % maskSize]!;
  const count = (to - at) >> 2;
  if (count > 0) {
    const four = Uint8Array.from({ length: maskSize }, (_, index) => mask[(phase + index) % maskSize]!);
    const word = new Int32Array(four.buffer)[0]!;
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, count);
    for (let index = 0; index < count; index++) words[index] = words[index]! ^ word;
    at += count * maskSize;
  }
  for (; at < to; at++) bytes[at] = bytes[at]! ^ mask[phase++ % maskSize]!;
}
