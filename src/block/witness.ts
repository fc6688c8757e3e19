/**
 * ContentWitness: decides by its content whether the disk that answers after a reconnect is the one
 * that was used before. It is for servers that give no marks of the disk (identity.ts): foreign NBD
 * servers, AoE targets, files over SFTP.
 *
 * It watches the requests that pass, and sends its own only in `check`. It remembers checksums of a
 * few blocks that were read or written, called spots. While a write of a spot is in flight or has
 * failed, the spot may have its old or its new content. After a reconnect:
 * - a spot that has another content although a flush has made it durable proves another disk;
 * - a spot with data in it that has an expected content proves the same disk;
 * - a spot that no flush has covered, or whose write has not ended well, may be lost or torn in a
 *   crash of the server, so it proves nothing by differing; spots of zeroes prove nothing by
 *   agreeing, because empty disks are all alike.
 *
 * Not here: the consequences of the verdict. The caller owns the connection and the waiting
 * requests.
 */
import { buffersOf, type Buffers } from '../base/buffers.js';
import { crc32 } from '../base/crc32.js';
import { BlockError } from './errors.js';

/**
 * Reads over the new connection, ahead of the requests that wait for the verdict. Rejects with a
 * BlockError.
 */
export type WitnessRead = (offset: number, into: Buffers) => Promise<void>;

/** Most spots; with `enoughProofs` spots that contain data, no further ones are collected. */
const maxSpots = 16;
const enoughProofs = 8;
/** Longest spot, in bytes. */
const spotSize = 4096;

/** Most contents that one spot may have; with more, the spot is forgotten. */
const maxContents = 4;

/** What a block may have on it. */
interface Content {
  readonly sum: number;
  /** All bytes are zero. */
  readonly empty: boolean;
}

/** A block of the disk and its possible contents. */
interface Spot {
  readonly offset: number;
  readonly length: number;
  /** One, unless a write of the spot is in flight or has failed. */
  contents: readonly Content[];
  /** Value of `#clock` when the server was known to have the content. */
  at: number;
}

/** A write in flight. */
interface Writing {
  readonly offset: number;
  readonly length: number;
  /** No other write overlaps it, so its data is on the disk when it ends. */
  alone: boolean;
}

export class ContentWitness {
  readonly #spots: Spot[] = [];
  readonly #writing = new Set<Writing>();
  /** Counts changes (writes, trims, zeroings) that have ended. */
  #clock = 0;
  /** Changes that ended up to this value of `#clock` are durable. */
  #durable = 0;
  /**
   * A read or change was answered; a change was answered. Requests still in flight do not count: no
   * user relies on them yet.
   */
  #used = false;
  #written = false;

  /** A read begins. Its data is in `into` when `done` resolves. */
  onRead(offset: number, into: Buffers, done: Promise<unknown>): void {
    if (this.#used && this.#hasEnough()) return;
    const length = Math.min(spotSize, into.length);
    const beside = this.#isWriting(offset, length);
    const began = this.#clock;
    done.then(
      () => {
        this.#used = true;
        // The data may or may not include a write that was in flight meanwhile.
        if (beside || this.#isWriting(offset, length) || this.#clock !== began) return;
        this.#remember(offset, into, length);
      },
      () => undefined,
    );
  }

  /**
   * A write, trim or zeroing begins.
   * @param from the data of a write; undefined for a trim and a zeroing
   */
  onWrite(offset: number, length: number, from: Buffers | undefined, done: Promise<unknown>): void {
    const own: Writing = { offset, length, alone: true };
    for (const other of this.#writing) if (overlap(other, offset, length)) other.alone = own.alone = false;
    this.#writing.add(own);
    const touched = this.#spots
      .filter((spot) => overlap(spot, offset, length))
      .map((spot) => this.#expect(spot, own, from));
    const size = Math.min(spotSize, length);
    const known = touched.some(({ content }) => content !== undefined);
    const fresh = from && !known && !this.#hasEnough() ? contentOf(from, 0, size) : undefined;
    const end = (): void => {
      this.#writing.delete(own);
      this.#clock++;
    };
    done.then(() => {
      end();
      this.#used = this.#written = true;
      for (const { spot, content } of touched) this.#endedWell(spot, own, content);
      if (fresh && own.alone) this.#add({ offset, length: size, contents: [fresh], at: this.#clock });
    }, end);
  }

  /** From now on a spot may have what is being written. Returns that, if it is all of the spot. */
  #expect(spot: Spot, { offset, length }: Writing, from: Buffers | undefined): { spot: Spot; content?: Content } {
    const start = spot.offset - offset;
    const whole = from !== undefined && start >= 0 && start + spot.length <= length;
    const content = whole ? contentOf(from, start, spot.length) : undefined;
    if (!content) return { spot };
    spot.contents = [...spot.contents, content];
    if (spot.contents.length > maxContents) this.#forget(spot);
    return { spot, content };
  }

  /** A write of a spot has ended well. */
  #endedWell(spot: Spot, { alone }: Writing, content: Content | undefined): void {
    if (content === undefined) return this.#forget(spot);
    // Of writes that overlap nothing tells which was the last: the spot may have any of their contents.
    if (!alone) return;
    spot.contents = [content];
    spot.at = this.#clock;
  }

  #forget(spot: Spot): void {
    const at = this.#spots.indexOf(spot);
    if (at >= 0) this.#spots.splice(at, 1);
  }

  /** A flush begins. */
  onFlush(done: Promise<unknown>): void {
    const began = this.#clock;
    done.then(
      () => (this.#durable = Math.max(this.#durable, began)),
      () => undefined,
    );
  }

  /** Compares the spots with the content that `read` gives. Rejects if the connection fails. */
  async check(read: WitnessRead): Promise<'same' | 'other' | 'unknown'> {
    const spots = [...this.#spots];
    const found = await Promise.all(spots.map((spot) => look(spot, read)));
    let proof = false;
    const lost: Spot[] = [];
    for (const [i, spot] of spots.entries()) {
      const now = found[i];
      if (now === undefined) continue;
      const content = spot.contents.find(({ sum }) => sum === now);
      if (content) proof ||= !content.empty;
      else if (spot.contents.length > 1 || this.#isWriting(spot.offset, spot.length)) continue;
      else if (spot.at <= this.#durable || !this.#written) return 'other';
      else lost.push(spot);
    }
    // Any disk will do if none was used yet, or if only zeroes were read and nothing was written.
    const harmless = !this.#used || (!this.#written && spots.length > 0 && found.some((sum) => sum !== undefined));
    if (!proof && !harmless) return 'unknown';
    // The server's crash has lost these spots' data; a later flush must not count them as durable.
    for (const spot of lost) this.#forget(spot);
    return 'same';
  }

  #hasEnough(): boolean {
    let proofs = 0;
    for (const { contents } of this.#spots) if (contents.some(({ empty }) => !empty)) proofs++;
    return proofs >= enoughProofs;
  }

  #isWriting(offset: number, length: number): boolean {
    for (const range of this.#writing) if (overlap(range, offset, length)) return true;
    return false;
  }

  #remember(offset: number, data: Buffers, length: number): void {
    const content = contentOf(data, 0, length);
    if (content) this.#add({ offset, length, contents: [content], at: this.#clock });
  }

  #add(spot: Spot): void {
    const same = this.#spots.findIndex((one) => overlap(one, spot.offset, spot.length));
    if (same >= 0) this.#spots.splice(same, 1);
    else if (this.#spots.length >= maxSpots) {
      const at = this.#spots.findIndex(({ contents }) => contents.every(({ empty }) => empty));
      if (at < 0) return;
      this.#spots.splice(at, 1);
    }
    this.#spots.push(spot);
  }
}

function overlap(range: { offset: number; length: number }, offset: number, length: number): boolean {
  return range.offset < offset + length && offset < range.offset + range.length;
}

/** `length` bytes from byte `at`; undefined if the request's memory is no longer valid. */
function contentOf(data: Buffers, at: number, length: number): Content | undefined {
  const bytes = new Uint8Array(length);
  try {
    data.copyTo(bytes, at);
  } catch {
    return undefined;
  }
  return { sum: crc32(bytes), empty: bytes.every((byte) => byte === 0) };
}

/** The present checksum of a spot; undefined if the block cannot be read. */
async function look({ offset, length }: Spot, read: WitnessRead): Promise<number | undefined> {
  const bytes = new Uint8Array(length);
  try {
    await read(offset, buffersOf(bytes));
  } catch (error) {
    if (error instanceof BlockError && (error.kind === 'io' || error.kind === 'range')) return undefined;
    throw error;
  }
  return crc32(bytes);
}
