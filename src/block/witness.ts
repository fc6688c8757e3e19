/**
 * ContentWitness: tells from its content whether the disk that answers after a reconnect is the one that was used before.
 * It is for servers that give no mark of the disk (identity.ts): foreign NBD servers, AoE targets, files by SFTP.
 *
 * It watches the requests that pass, and sends none of its own until it is asked. It remembers checksums of a few blocks
 * that were read or written, its spots, and forgets a spot as soon as a write touches it. After a reconnect:
 * - a spot that differs although a flush has made it durable proves another disk;
 * - a spot with data in it that agrees proves the same disk;
 * - a spot that no flush has covered may be lost in a crash of the server, so it proves nothing by differing; spots of
 *   zeroes prove nothing by agreeing, because empty disks are all alike.
 *
 * Not here: what follows from the verdict; it is the caller that has the connection and the requests that wait.
 */
import { buffersOf, type Buffers } from '../base/buffers.js';
import { crc32 } from '../base/crc32.js';
import { BlockError } from './errors.js';

/** Reads from one connection, past everything that waits. Rejects with a BlockError. */
export type WitnessRead = (offset: number, into: Buffers) => Promise<void>;

/** Spots at most; and spots with data from which on no further ones are looked for. */
const maxSpots = 16;
const enoughProofs = 8;
/** Bytes of a spot at most. */
const spotSize = 4096;

interface Spot {
  readonly offset: number;
  readonly length: number;
  readonly sum: number;
  readonly empty: boolean;
  /** Value of the clock when its content was known to be on the server. */
  readonly at: number;
}

/** A write in flight. */
interface Writing {
  readonly offset: number;
  readonly length: number;
  /** No other write overlaps it: what it wrote is there when it ends. */
  alone: boolean;
}

export class ContentWitness {
  readonly #spots: Spot[] = [];
  readonly #writing = new Set<Writing>();
  /** Counts requests that ended. */
  #clock = 0;
  /** What ended up to this value of the clock is durable. */
  #durable = 0;
  /** A request was answered; a write was. What is only in flight has no effect that anyone relies on. */
  #used = false;
  #written = false;

  /** A read begins, whose data is in `into` when `done` resolves. */
  onRead(offset: number, into: Buffers, done: Promise<unknown>): void {
    if (this.#used && this.#hasEnough()) return;
    const length = Math.min(spotSize, into.length);
    const beside = this.#isWriting(offset, length);
    const began = this.#clock;
    done.then(
      () => {
        this.#used = true;
        // A write that came between may or may not be in the data.
        if (beside || this.#isWriting(offset, length) || this.#clock !== began) return;
        this.#remember(offset, into, length);
      },
      () => undefined,
    );
  }

  /** A write, trim or zeroing begins. @param from Its data; undefined for a trim and a zeroing. */
  onWrite(offset: number, length: number, from: Buffers | undefined, done: Promise<unknown>): void {
    for (let i = this.#spots.length - 1; i >= 0; i--) {
      if (overlap(this.#spots[i]!, offset, length)) this.#spots.splice(i, 1);
    }
    const own: Writing = { offset, length, alone: true };
    for (const other of this.#writing) if (overlap(other, offset, length)) other.alone = own.alone = false;
    this.#writing.add(own);
    const spot = from && own.alone && !this.#hasEnough() ? checksumOf(from, Math.min(spotSize, length)) : undefined;
    const end = (): void => {
      this.#writing.delete(own);
      this.#clock++;
    };
    done.then(() => {
      end();
      this.#used = this.#written = true;
      if (spot && own.alone) this.#add({ offset, ...spot, at: this.#clock });
    }, end);
  }

  /** A flush begins. */
  onFlush(done: Promise<unknown>): void {
    const began = this.#clock;
    done.then(
      () => (this.#durable = Math.max(this.#durable, began)),
      () => undefined,
    );
  }

  /** Compares the spots with what another connection reads. Rejects if that fails as a whole. */
  async check(read: WitnessRead): Promise<'same' | 'other' | 'unknown'> {
    const spots = [...this.#spots];
    const found = await Promise.all(spots.map((spot) => look(spot, read)));
    let proof = false;
    const lost: Spot[] = [];
    for (const [i, spot] of spots.entries()) {
      const now = found[i];
      if (now === undefined) continue;
      if (now === spot.sum) proof ||= !spot.empty;
      else if (spot.at <= this.#durable || !this.#written) return 'other';
      else lost.push(spot);
    }
    // A disk of which nothing was used, or an empty one on which nothing was written, is as good as any other.
    const harmless = !this.#used || (!this.#written && spots.length > 0 && found.some((sum) => sum !== undefined));
    if (!proof && !harmless) return 'unknown';
    // A crash of the server took these: a later flush does not make them durable.
    for (const spot of lost) if (this.#spots.includes(spot)) this.#spots.splice(this.#spots.indexOf(spot), 1);
    return 'same';
  }

  #hasEnough(): boolean {
    let proofs = 0;
    for (const { empty } of this.#spots) if (!empty) proofs++;
    return proofs >= enoughProofs;
  }

  #isWriting(offset: number, length: number): boolean {
    for (const range of this.#writing) if (overlap(range, offset, length)) return true;
    return false;
  }

  #remember(offset: number, data: Buffers, length: number): void {
    const spot = checksumOf(data, length);
    if (spot) this.#add({ offset, ...spot, at: this.#clock });
  }

  #add(spot: Spot): void {
    const same = this.#spots.findIndex((one) => overlap(one, spot.offset, spot.length));
    if (same >= 0) this.#spots.splice(same, 1);
    else if (this.#spots.length >= maxSpots) {
      const at = this.#spots.findIndex(({ empty }) => empty);
      if (at < 0) return;
      this.#spots.splice(at, 1);
    }
    this.#spots.push(spot);
  }
}

function overlap(range: { offset: number; length: number }, offset: number, length: number): boolean {
  return range.offset < offset + length && offset < range.offset + range.length;
}

/** Undefined if the memory of the request is gone. */
function checksumOf(data: Buffers, length: number): Pick<Spot, 'length' | 'sum' | 'empty'> | undefined {
  const bytes = new Uint8Array(length);
  try {
    data.slice(0, length).copyTo(bytes, 0);
  } catch {
    return undefined;
  }
  return { length, sum: crc32(bytes), empty: bytes.every((byte) => byte === 0) };
}

/** The checksum of a spot as it is now; undefined for a block that cannot be read. */
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
