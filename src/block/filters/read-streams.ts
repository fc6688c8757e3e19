/**
 * Detects sequential readers among random ones: a request that continues near the end of an earlier
 * one belongs to the same sequential reader. Several readers are tracked at once.
 *
 * Not here: what is read ahead, and when (readahead.ts).
 */

/**
 * A request up to this far before a reader's end still belongs to it, in bytes: requests in flight
 * arrive out of order.
 */
const behind = 1 << 20;
/**
 * A request up to this far after a reader's end still belongs to it, in bytes: readers skip data
 * that they have cached.
 */
const ahead = 128 << 10;
/**
 * Like `ahead`, but while the reader is not known to be sequential: smaller, so that random jumps
 * do not look sequential.
 */
const aheadAtFirst = 16 << 10;

/** One reader. All offsets in bytes. */
export class ReadStream {
  /** End of the furthest request so far. */
  next: number;
  /** How far to read ahead of it, in bytes; 0 while it is not known to be sequential. */
  window = 0;
  /** Data before this offset has been read ahead, or need not be. */
  fetched: number;
  /** Value of the clock at its last request: the reader with the lowest is forgotten first. */
  used = 0;

  constructor(end: number) {
    this.next = this.fetched = end;
  }

  /** Resets the window after a read-ahead has failed. */
  restart(): void {
    this.window = 0;
    this.fetched = this.next;
  }
}

export class ReadStreams {
  readonly #limit: number;
  readonly #first: number;
  readonly #most: number;
  readonly #streams: ReadStream[] = [];
  #clock = 0;

  /**
   * @param limit most readers that are tracked
   * @param first smallest first window of a reader, in bytes
   * @param most largest window, in bytes
   */
  constructor(limit: number, first: number, most: number) {
    this.#limit = limit;
    this.#first = first;
    this.#most = most;
  }

  /**
   * Notes a request for [start, end). Returns its reader, with a larger window, if the reader is
   * sequential.
   */
  note(start: number, end: number): ReadStream | undefined {
    const stream = this.#of(start);
    if (!stream) {
      this.#add(end);
      return undefined;
    }
    stream.used = ++this.#clock;
    if (end <= stream.next) return stream.window > 0 ? stream : undefined;
    stream.next = end;
    stream.fetched = Math.max(stream.fetched, end);
    const wanted = stream.window === 0 ? Math.max(this.#first, 2 * (end - start)) : stream.window * 2;
    stream.window = Math.min(this.#most, wanted);
    return stream;
  }

  /** The data that was read ahead from `at` on has been dropped: it may be read ahead again. */
  forget(at: number): void {
    for (const stream of this.#streams) if (stream.fetched > at && stream.next <= at) stream.fetched = at;
  }

  #of(start: number): ReadStream | undefined {
    let nearest: ReadStream | undefined;
    for (const stream of this.#streams) {
      const distance = start - stream.next;
      const known = stream.window > 0;
      if (distance < (known ? -behind : 0) || distance > (known ? ahead : aheadAtFirst)) continue;
      if (!nearest || Math.abs(distance) < Math.abs(start - nearest.next)) nearest = stream;
    }
    return nearest;
  }

  #add(end: number): void {
    if (this.#streams.length >= this.#limit) {
      const oldest = this.#streams.reduce((a, b) => (b.used < a.used ? b : a));
      this.#streams.splice(this.#streams.indexOf(oldest), 1);
    }
    const stream = new ReadStream(end);
    stream.used = ++this.#clock;
    this.#streams.push(stream);
  }
}
