/**
 * ContentWitness: decides by its content whether the disk that answers after a reconnect is the one
 * that was used before. It is for servers that give no marks of the disk (identity.ts): foreign NBD
 * servers, AoE targets, files over SFTP.
 *
 * It watches the requests that pass, and sends its own only in `check`. It remembers checksums of a
 * few blocks that were read or written, called spots, and forgets a spot when a write touches it.
 * After a reconnect:
 * - a spot that differs although a flush has made it durable proves another disk;
 * - a spot with data in it that agrees proves the same disk;
 * - a spot that no flush has covered may be lost in a crash of the server, so it proves nothing by
 *   differing; spots of zeroes prove nothing by agreeing, because empty disks are all alike.
 * While writes of a block are in flight, it may hold the old content or that of each write. These
 * are kept as possible spots: one that agrees proves the same disk, and none proves another one.
 *
 * Not here: the consequences of the verdict. The caller owns the connection and the waiting
 * requests.
 */
import { buffersOf, type Buffers } from '../base/buffers.js';
import { crc32 } from '../base/crc32.js';
import { isZero } from './copy-plan.js';
import { BlockError } from './errors.js';

/**
 * Reads over the new connection, ahead of the requests that wait for the verdict. Rejects with a
 * BlockError.
 */
export type WitnessRead = (offset: number, into: Buffers) => Promise<void>;

/**
 * Most possible spots. More than the requests in flight, because a write that has just ended may be
 * the one that is on the disk.
 */
const maxPossible = 512;
/** Most spots; with `enoughProofs` spots that contain data, no further ones are collected. */
const maxSpots = 16;
const enoughProofs = 8;
/**
 * Most spots of the latest writes: one for each flush. They tell an older copy of the disk from the
 * disk, which have the same blocks otherwise.
 */
const maxLatest = 4;
/** Longest spot, in bytes, unless the disk's blocks are longer. */
const usualSpotSize = 4096;

/** A block of the disk and its checksum. */
interface Spot {
  readonly offset: number;
  readonly length: number;
  readonly sum: number;
  /** All bytes are zero. */
  readonly empty: boolean;
  /** Value of `#clock` when the server was known to have the content. */
  readonly at: number;
  /**
   * Read after a flush failed: the server's cache may have shown data that it can no longer make
   * durable, so the spot proves nothing by differing.
   */
  readonly doubtful?: boolean;
}

/** A write in flight. */
interface Writing {
  readonly offset: number;
  readonly length: number;
  /** No other write overlaps it, so its data is on the disk when it ends. */
  alone: boolean;
}

export class ContentWitness {
  readonly #spotSize: number;
  readonly #spots: Spot[] = [];
  /** Spots of the latest writes, oldest first. Undefined: others may write the disk too. */
  readonly #latest: Spot[] | undefined;
  /** A latest spot was taken since the last flush began. */
  #taken = false;
  /** At most `maxPossible` possible spots, oldest first. Overlapping ones exclude each other. */
  readonly #possible: Spot[] = [];
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
  /** A write of data was answered, not only trims and writes of zeroes. */
  #wroteData = false;
  #flushFailed = false;

  /**
   * @param blockSize block size of the disk in bytes; a spot has at least one block
   * @param soleWriter true if all writes to the disk pass here
   */
  constructor(blockSize = 1, soleWriter = false) {
    this.#latest = soleWriter ? [] : undefined;
    this.#spotSize = Math.max(usualSpotSize, blockSize);
  }

  /** A read begins. Its data is in `into` when `done` resolves. */
  onRead(offset: number, into: Buffers, done: Promise<unknown>): void {
    if (this.#used && this.#hasEnough()) return;
    const length = Math.min(this.#spotSize, into.length);
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
    for (let i = this.#spots.length - 1; i >= 0; i--) {
      if (overlap(this.#spots[i]!, offset, length)) this.#addPossible(...this.#spots.splice(i, 1));
    }
    dropOverlapping(this.#latest, offset, length);
    const own: Writing = { offset, length, alone: true };
    for (const other of this.#writing) if (overlap(other, offset, length)) other.alone = own.alone = false;
    this.#writing.add(own);
    const latest = this.#latest !== undefined && !this.#taken && this.#hasEnough();
    if (from && latest) this.#taken = true;
    const spot =
      from && (latest || !this.#hasEnough()) ? checksumOf(from, Math.min(this.#spotSize, length)) : undefined;
    if (spot) this.#addPossible({ offset, ...spot, at: this.#clock });
    const end = (): void => {
      this.#writing.delete(own);
      this.#clock++;
    };
    done.then(() => {
      end();
      this.#used = this.#written = true;
      // Of a long write only the beginning was looked at.
      if (from && !(spot?.empty && spot.length === length)) this.#wroteData = true;
      if (!own.alone) return;
      for (let i = this.#possible.length - 1; i >= 0; i--) {
        if (overlap(this.#possible[i]!, offset, length)) this.#possible.splice(i, 1);
      }
      if (!spot) return;
      if (latest) this.#addLatest({ offset, ...spot, at: this.#clock });
      else this.#add({ offset, ...spot, at: this.#clock });
    }, end);
  }

  /** A flush begins. */
  onFlush(done: Promise<unknown>): void {
    const began = this.#clock;
    this.#taken = false;
    done.then(
      () => (this.#durable = Math.max(this.#durable, began)),
      (error: unknown) => {
        if (!(error instanceof BlockError) || (error.kind !== 'io' && error.kind !== 'no-space')) return;
        // A later flush can succeed without the data that this one could not make durable.
        this.#flushFailed = true;
        dropAfter(this.#latest, this.#durable);
        for (let i = this.#spots.length - 1; i >= 0; i--) {
          if (this.#spots[i]!.at > this.#durable) this.#addPossible(...this.#spots.splice(i, 1));
        }
      },
    );
  }

  /**
   * Compares the spots with the content that `read` gives. Rejects if the connection fails.
   * @param tries how often it compares, if writes change the spots meanwhile
   */
  async check(read: WitnessRead, tries = 5): Promise<'same' | 'other' | 'unknown'> {
    // No user relies on the disk yet, so any will do.
    if (!this.#used) return 'same';
    const spots = [...this.#spots];
    const possible = [...this.#possible];
    for (const spot of [...(this.#latest ?? [])]) {
      const now = await look(spot, read);
      const held = this.#latest!.includes(spot) && spot.at <= this.#durable;
      if (held && now !== undefined && now !== spot.sum) return 'other';
    }
    const found = await Promise.all(spots.map((spot) => look(spot, read)));
    let proof = false;
    let touched = false;
    const lost: Spot[] = [];
    for (const [i, spot] of spots.entries()) {
      const now = found[i];
      if (now === undefined) continue;
      if (now === spot.sum) proof ||= !spot.empty;
      // A write over another connection has changed the block meanwhile.
      else if (!this.#spots.includes(spot)) touched = true;
      else if (!spot.doubtful && (spot.at <= this.#durable || !this.#written)) return 'other';
      else lost.push(spot);
    }
    proof ||= await this.#holdsPossible(possible, read);
    // If no data was written and all that is known is zeroes, a disk that has them too is as good.
    const harmless = !this.#wroteData && (spots.length === 0 || found.some((sum) => sum !== undefined));
    if (!proof && touched && tries > 1) return this.check(read, tries - 1);
    if (!proof && !harmless) return 'unknown';
    // The server's crash has lost these spots' data; a later flush must not count them as durable.
    for (const spot of lost) if (this.#spots.includes(spot)) this.#spots.splice(this.#spots.indexOf(spot), 1);
    return 'same';
  }

  /** True if one of `possible` is on the disk. Reads each block once, one after the other. */
  async #holdsPossible(possible: readonly Spot[], read: WitnessRead): Promise<boolean> {
    const sums = new Map<string, number | undefined>();
    for (const spot of possible) {
      if (spot.empty) continue;
      const key = `${spot.offset}+${spot.length}`;
      if (!sums.has(key)) sums.set(key, await look(spot, read));
      if (sums.get(key) === spot.sum) return true;
    }
    return false;
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
    if (spot) this.#add({ offset, ...spot, at: this.#clock, doubtful: this.#flushFailed });
  }

  #addLatest(spot: Spot): void {
    this.#latest!.push(spot);
    if (this.#latest!.length > maxLatest) this.#latest!.shift();
  }

  #addPossible(...spots: Spot[]): void {
    this.#possible.push(...spots);
    if (this.#possible.length > maxPossible) this.#possible.splice(0, this.#possible.length - maxPossible);
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

function dropOverlapping(spots: Spot[] | undefined, offset: number, length: number): void {
  for (let i = (spots?.length ?? 0) - 1; i >= 0; i--) if (overlap(spots![i]!, offset, length)) spots!.splice(i, 1);
}

function dropAfter(spots: Spot[] | undefined, durable: number): void {
  for (let i = (spots?.length ?? 0) - 1; i >= 0; i--) if (spots![i]!.at > durable) spots!.splice(i, 1);
}

function overlap(range: { offset: number; length: number }, offset: number, length: number): boolean {
  return range.offset < offset + length && offset < range.offset + range.length;
}

/** Memory for a copy of a spot. Reused: fresh memory for each read costs more than the copy. */
let scratch = new Uint8Array(0);

/**
 * The checksum of the first `length` bytes; undefined if the request's memory is no longer valid.
 */
function checksumOf(data: Buffers, length: number): Pick<Spot, 'length' | 'sum' | 'empty'> | undefined {
  if (scratch.length < length) scratch = new Uint8Array(length);
  const bytes = scratch.subarray(0, length);
  try {
    data.copyTo(bytes, 0);
  } catch {
    return undefined;
  }
  const empty = isZero(bytes);
  return { length, sum: empty ? sumOfZeroes(bytes) : crc32(bytes), empty };
}

/**
 * The last sum of zeroes. On an empty disk no read gives a proof, so each read of it is looked at.
 */
let zeroes = { length: 0, sum: 0 };

function sumOfZeroes(bytes: Uint8Array): number {
  if (zeroes.length !== bytes.length) zeroes = { length: bytes.length, sum: crc32(bytes) };
  return zeroes.sum;
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
