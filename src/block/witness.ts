/**
 * ContentWitness: tells from its content whether the disk that answers after a reconnect is the one that was used before.
 * It is for servers that give no mark of the disk (identity.ts): foreign NBD servers, AoE targets, files by SFTP.
 *
 * It knows checksums of a few blocks, its spots. A write makes the spots that it touches unknown; after a flush they are
 * read again, and blocks that were written before that flush become spots too. So the spots hold only what the server
 * has promised to keep, and they follow the data of the guest. A disk that differs at one spot is another one. One that
 * agrees at a spot with data in it is the same one. Spots of zeroes prove nothing, because empty disks are all alike.
 *
 * Not here: what follows from the verdict; it is the caller that has the connection and the requests that wait.
 */
import { buffersOf, type Buffers } from '../base/buffers.js';
import { crc32 } from '../base/crc32.js';
import { BlockError } from './errors.js';

/** Reads from one connection, past everything that waits. Rejects with a BlockError. */
export type WitnessRead = (offset: number, into: Buffers) => Promise<void>;

/** Spots evenly over the disk, the first and last block among them; and spots at blocks that were written. */
const evenSpots = 16;
const writtenSpots = 8;
const spotSize = 4096;
/** Enough spots with data in them; and the pause between two readings after flushes while there are fewer, in ms. */
const enoughProofs = 4;
const relearnMs = 250;

interface Spot {
  readonly offset: number;
  /** Undefined while the content is not known. */
  sum: number | undefined;
  empty: boolean;
  /** Writes on it that are in flight. */
  pending: number;
  /** Value of the clock when the last write on it ended. */
  changedAt: number;
}

export class ContentWitness {
  readonly #size: number;
  readonly #length: number;
  readonly #even: Spot[];
  readonly #written: Spot[] = [];
  /** Counts writes that ended. */
  #clock = 0;
  #everWritten = false;
  #learning = false;
  #learnAfter = 0;

  /** @param blockSize Smallest unit of a read, in bytes. */
  constructor(size: number, blockSize: number) {
    this.#size = size;
    this.#length = Math.max(spotSize, blockSize);
    const whole = Math.floor(size / this.#length);
    const count = Math.min(evenSpots, whole);
    const places = Array.from({ length: count }, (_, i) => Math.floor((i * (whole - 1)) / Math.max(1, count - 1)));
    this.#even = places.map((place) => spotAt(place * this.#length));
  }

  /** Reads what is not known yet. Blocks that cannot be read stay unknown. */
  async learn(read: WitnessRead): Promise<void> {
    await this.#learn(read, this.#clock);
    this.#learnAfter = 0;
  }

  /** A write, trim or zeroing of this range begins. `done` settles when it is over, whatever came of it. */
  track(offset: number, length: number, done: Promise<unknown>): void {
    this.#everWritten = true;
    this.#noteWritten(offset);
    const touched = this.#spots.filter((spot) => spot.offset < offset + length && spot.offset + this.#length > offset);
    if (touched.length === 0) {
      this.#clock++;
      return;
    }
    for (const spot of touched) {
      spot.pending++;
      spot.sum = undefined;
    }
    const end = (): void => {
      this.#clock++;
      for (const spot of touched) {
        spot.pending--;
        spot.changedAt = this.#clock;
      }
    };
    done.then(end, end);
  }

  /** A flush begins; `done` is its outcome. If too few spots are known by then, `read` gives what the flush made durable. */
  flushing(done: Promise<unknown>, read: WitnessRead): void {
    const proofs = this.#spots.filter(({ sum, empty }) => sum !== undefined && !empty).length;
    if (proofs >= enoughProofs || this.#learning || performance.now() < this.#learnAfter) return;
    const began = this.#clock;
    done.then(
      () => this.#learn(read, began),
      () => undefined,
    );
  }

  /** Compares the spots with what another connection reads. Rejects if that fails as a whole. */
  async check(read: WitnessRead): Promise<'same' | 'other' | 'unknown'> {
    const known = this.#spots.flatMap(({ offset, sum, empty }) => (sum === undefined ? [] : [{ offset, sum, empty }]));
    const found = await Promise.all(known.map(({ offset }) => this.#look(offset, read)));
    let proof = false;
    let equal = 0;
    for (const [i, spot] of known.entries()) {
      const now = found[i];
      if (!now) continue;
      if (now.sum !== spot.sum) return 'other';
      equal++;
      if (!spot.empty) proof = true;
    }
    // An empty disk on which nothing was written is as good as any other empty disk.
    return proof || (equal > 0 && !this.#everWritten) ? 'same' : 'unknown';
  }

  get #spots(): readonly Spot[] {
    return [...this.#even, ...this.#written];
  }

  /** Makes the block at `offset` a spot. Spots that prove something already are kept. */
  #noteWritten(offset: number): void {
    const start = offset - (offset % this.#length);
    if (start + this.#length > this.#size || this.#spots.some((spot) => spot.offset === start)) return;
    if (this.#written.length >= writtenSpots) {
      const at = this.#written.findIndex(({ sum, empty, pending }) => pending === 0 && (sum === undefined || empty));
      if (at < 0) return;
      this.#written.splice(at, 1);
    }
    this.#written.push(spotAt(start));
  }

  async #learn(read: WitnessRead, began: number): Promise<void> {
    if (this.#learning) return;
    this.#learning = true;
    this.#learnAfter = performance.now() + relearnMs;
    const unchanged = (spot: Spot): boolean => spot.pending === 0 && spot.changedAt <= began;
    const wanted = this.#spots.filter((spot) => spot.sum === undefined && unchanged(spot));
    await Promise.all(
      wanted.map(async (spot) => {
        const now = await this.#look(spot.offset, read).catch(() => undefined);
        if (!now || !unchanged(spot)) return;
        spot.sum = now.sum;
        spot.empty = now.empty;
      }),
    );
    this.#learning = false;
  }

  /** Undefined for a block that cannot be read. */
  async #look(offset: number, read: WitnessRead): Promise<{ sum: number; empty: boolean } | undefined> {
    const bytes = new Uint8Array(this.#length);
    try {
      await read(offset, buffersOf(bytes));
    } catch (error) {
      if (error instanceof BlockError && (error.kind === 'io' || error.kind === 'range')) return undefined;
      throw error;
    }
    return { sum: crc32(bytes), empty: bytes.every((byte) => byte === 0) };
  }
}

function spotAt(offset: number): Spot {
  return { offset, sum: undefined, empty: false, pending: 0, changedAt: 0 };
}
