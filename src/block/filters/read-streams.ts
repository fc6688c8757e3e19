/** Telling readers that go forward from those that jump: by where each of the last few would go on. */

/** How far before a reader's furthest byte a request still is the same reader's: with many under way they come out of order. */
const behind = 1 << 20;
/** How far after it: readers skip what they know already. */
const ahead = 128 << 10;
/** The same while it is not known yet that it goes forward: jumps are not to look like it. */
const aheadAtFirst = 16 << 10;

/** One reader. */
export class ReadStream {
  /** The byte after the furthest that it has asked for. */
  next: number;
  /** How far ahead of it is to be read, in bytes; 0 while it is not known to go forward. */
  window = 0;
  /** All before it has been read ahead, or need not be. */
  fetched: number;
  used = 0;

  constructor(end: number) {
    this.next = this.fetched = end;
  }

  /** Begins with a small window again: something was not as expected. */
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
   * @param limit How many readers are remembered.
   * @param first The first window of a reader, in bytes, at least.
   * @param most The largest.
   */
  constructor(limit: number, first: number, most: number) {
    this.#limit = limit;
    this.#first = first;
    this.#most = most;
  }

  /** Notes that [start, end) was asked for. Returns the reader if it goes forward, its window grown. */
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

  /** What was read ahead at `at` is gone: it may be read ahead again. */
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
