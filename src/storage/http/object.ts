/**
 * One version of an object on an HTTP server, read by ranges (RFC 9110 §14).
 *
 * Promise: all bytes come from the version that was opened. Its entity tag, else its date and
 * length, is compared at each answer; a strong tag is also a condition of each request (If-Match),
 * so that a server does not begin to send another version. When the version has changed, every
 * later read fails.
 *
 * A request that fails in passing (a lost connection, silence, status 429 or 503) is repeated, from
 * the first byte that is missing, until nothing has arrived for the reconnect time. Requests that
 * bring bytes may together last for the reconnect time and 1 s for each KB of the read: a server
 * that sends a byte now and then does not hold a read for ever.
 *
 * Not here: how a request is sent (send.node.ts, send-fetch.ts; s3/: signatures).
 */
import { JoinedAbort, onAbort } from '../../base/abort.js';
import { AwakeClock } from '../../base/awake-clock.js';
import { buffersOf, type Buffers } from '../../base/buffers.js';
import { connectionFailure } from '../../base/connection-failure.js';
import { ThrottledLogger, type Logger } from '../../base/log.js';
import { abortedError, BlockError } from '../../block/errors.js';
import { isSameVersion, isStrong, readAnswer, type ByteRange, type ObjectVersion } from './answer.js';
import { HttpRefusal, type BodySink, type HttpHead, type Send } from './exchange.js';
import { shownUrl } from './location.js';
import { pause } from '../../base/event-loop.js';
import { Silence } from './silence.js';

export interface HttpObjectOptions {
  readonly send: Send;
  readonly url: string;
  /** The address for messages, without secrets. */
  readonly shown: string;
  /** How long a read may wait without a byte, in seconds. */
  readonly reconnectSeconds: number;
  readonly log: Logger;
  /** Closes the connections. Called once, after the last request. */
  readonly close: () => Promise<void>;
}

/** Longest silence of a server before the request is repeated, in ms. Chosen, not measured. */
const silenceMs = 20_000;
/** Least rate of a server, in bytes per ms: a read of one that is slower ends. Chosen. */
const leastRate = 1;
/** Longest time for the opening to wait for a server that is busy, in ms. */
const openMs = 10_000;
/** Most requests at once; further ones wait. Browsers have six for each server. */
const mostRequests = 24;
/** Longest latency of a near server, in ms. */
const nearMs = 2;
/** Longest range of a request that may wait behind others, in bytes: longer ones hold others up. */
const mostQueuedBytes = 64 << 10;
/** Longest time of a timer in ms: longer ones end at once. */
const longestTimer = 2 ** 31 - 1;

/** A failure after which the same request may succeed. */
class Passing extends Error {
  /** The server has answered, and is busy. */
  readonly isBusy: boolean;
  /** Pause that it asks for, in ms. */
  readonly pauseMs: number;

  constructor(message: string, options: { isBusy?: boolean; pauseMs?: number | undefined; cause?: unknown } = {}) {
    super(message, options);
    this.isBusy = options.isBusy ?? false;
    this.pauseMs = options.pauseMs ?? 0;
  }
}

/** An address that a redirect gave is not valid any more. The first one may give another. */
class Moved extends Passing {}

/** How long a read may wait without a byte, in ms: for a lost server, and for a busy one. */
interface Patience {
  readonly lostMs: number;
  readonly busyMs: number;
}

export class HttpObject {
  readonly #options: HttpObjectOptions;
  readonly #log: ThrottledLogger;
  readonly #waiting: (() => void)[] = [];
  /** Its abort ends all reads. */
  readonly #stop = new AbortController();
  #free = mostRequests;
  /** The time without bytes does not count while this process sleeps. */
  readonly #clock = new AwakeClock();
  /** When bytes last arrived, for any read, in ms of the clock. */
  #heard = 0;
  #latencyMs = Infinity;
  /** Requests may wait behind others: the answers have fitted so far. */
  #queues = true;
  /** Where the latest redirects led to. */
  #url: string;
  #version: ObjectVersion | undefined;
  #changed: BlockError | undefined;

  private constructor(options: HttpObjectOptions) {
    this.#options = options;
    this.#log = new ThrottledLogger(options.log);
    this.#url = options.url;
  }

  /**
   * Asks for the first bytes, because addresses that are signed for GET allow no other method, and
   * takes length and version from the answer.
   * @throws BlockError if there is no such object, or the server cannot serve ranges
   */
  static async open(options: HttpObjectOptions, signal: AbortSignal | undefined): Promise<HttpObject> {
    const object = new HttpObject(options);
    // s3rver takes the range 0-0 for the whole object.
    const into = buffersOf(new Uint8Array(2));
    const busyMs = Math.min(openMs, options.reconnectSeconds * 1000);
    await object.#read({ start: 0, end: 2 }, into, signal, { lostMs: 0, busyMs }, 1);
    return object;
  }

  get version(): ObjectVersion {
    return this.#version!;
  }

  /**
   * The time from a request to the head of its answer, in ms: about the least of the latest
   * requests, because longer ones waited for other work, not for the network.
   */
  get latencyMs(): number {
    return this.#latencyMs;
  }

  /** True if a request costs more than its wait. */
  get isNear(): boolean {
    return this.#latencyMs <= nearMs;
  }

  /** Ends all reads. */
  stop(): void {
    this.#stop.abort();
    this.#clock.stop();
  }

  close(): Promise<void> {
    return this.#options.close();
  }

  /** Reads a range within the object's length. */
  async read(start: number, into: Buffers, signal: AbortSignal | undefined): Promise<void> {
    const ms = this.#options.reconnectSeconds * 1000;
    await this.#read({ start, end: start + into.length }, into, signal, { lostMs: ms, busyMs: ms });
  }

  /** @param least bytes that are enough */
  async #read(
    { start, end }: ByteRange,
    into: Buffers,
    signal: AbortSignal | undefined,
    patience: Patience,
    least = into.length,
  ): Promise<void> {
    let done = 0;
    let latest = this.#clock.now();
    let pauseMs = 100;
    let isMoved = false;
    let isFirst = true;
    let transferMs = Math.max(patience.busyMs, silenceMs) + into.length / leastRate;
    while (done < least) {
      this.#clock.count(Math.max(patience.lostMs, patience.busyMs, silenceMs));
      let began = 0;
      try {
        const rest = into.slice(done, into.length);
        const asked = { start: start + done, end };
        const until = (): number => Math.max(latest, this.#heard) + Math.max(patience.busyMs, silenceMs);
        const arrived = await this.#inTurn(signal, until, () => {
          // While others get bytes, the wait for a turn is no silence of the server.
          if (isFirst) latest = Math.max(latest, this.#heard);
          isFirst = false;
          began = this.#clock.now();
          return this.#request(asked, rest, signal, Math.max(transferMs, silenceMs));
        });
        if (arrived === 0) throw new Passing('the server ends its answers early');
        done += arrived;
        latest = this.#clock.now();
        transferMs -= latest - began;
        if (transferMs <= 0 && done < least) throw new BlockError('unreachable', this.#about('the server is too slow'));
        pauseMs = 100;
      } catch (error) {
        if (this.#reasonToEnd(signal)) throw abortedError(error);
        if (!(error instanceof Passing)) throw error;
        if (error instanceof Moved && isMoved) throw new BlockError('io', this.#about(error.message));
        isMoved ||= error instanceof Moved;
        const left = latest + (error.isBusy ? patience.busyMs : patience.lostMs) - this.#clock.now();
        if (left <= 0) {
          throw new BlockError('unreachable', this.#about(error.message), { cause: error });
        }
        this.#log.log('warn', 'retry', `${this.#about(error.message)}; trying again`);
        // The server may ask for a longer pause than the user waits for: try once more at the end.
        await this.#pause(Math.min(Math.max(pauseMs, error.pauseMs), left, longestTimer), signal);
        pauseMs = Math.min(2 * pauseMs, 2000);
      }
    }
  }

  /** Sends one request. Resolves with the number of bytes that it brought. */
  async #request(asked: ByteRange, into: Buffers, signal: AbortSignal | undefined, wholeMs: number): Promise<number> {
    if (this.#changed) throw this.#changed;
    const silence = new Silence(silenceMs, [signal, this.#stop.signal], wholeMs);
    try {
      return await this.#exchange(asked, into, silence);
    } catch (error) {
      if (error instanceof BlockError || error instanceof Passing) throw error;
      if (error instanceof HttpRefusal) throw new BlockError('io', this.#about(error.message), { cause: error });
      this.#url = this.#options.url;
      throw new Passing(silence.passed ? 'the server is silent' : connectionFailure(error), { cause: error });
    } finally {
      silence.end();
    }
  }

  /** Resolves with the bytes that arrived, also if the rest does not: the caller asks again. */
  async #exchange(asked: ByteRange, into: Buffers, silence: Silence): Promise<number> {
    const headers: Record<string, string> = {
      range: `bytes=${asked.start}-${asked.end - 1}`,
      // A compressed object would have other ranges.
      'accept-encoding': 'identity',
    };
    if (isStrong(this.#version?.tag)) headers['if-match'] = this.#version.tag;
    const from = this.#url;
    const asks = performance.now();
    let done = 0;
    let isOver = false;
    const mayQueue = this.isNear && into.length <= mostQueuedBytes && this.#queues;
    const receive = (head: HttpHead): BodySink => {
      silence.heard();
      this.#latencyMs = Math.min(performance.now() - asks, this.#latencyMs * 1.05);
      const range = this.#accept(head, asked, from, mayQueue);
      const length = range.end - range.start;
      const arrived = (count: number): void => {
        done += count;
        silence.heard();
        this.#heard = this.#clock.now();
      };
      const take = (part: Uint8Array): void => {
        // After a failure the memory belongs to another request.
        if (isOver) return;
        if (done + part.length > length) {
          throw new BlockError('io', this.#about('the server sends more bytes than it announced'));
        }
        into.copyFrom(part, done);
        arrived(part.length);
      };
      const memory = (most: number): Uint8Array | undefined => {
        const place = isOver ? undefined : into.slice(done, Math.min(length, done + most)).stable();
        return place?.length === 1 && place[0]!.length > 0 ? place[0] : undefined;
      };
      return { take, memory, arrived };
    };
    try {
      await this.#options.send(from, { headers, mayQueue, receive, endBy: silence.endBy });
    } catch (error) {
      // A server may drop requests that come before it has answered the ones before them.
      if (mayQueue && silence.passed) this.#queues = false;
      if (error instanceof BlockError || done === 0) throw error;
    } finally {
      isOver = true;
    }
    return done;
  }

  /** Checks the head of the answer to a request to `from`, and returns the range of its body. */
  #accept(head: HttpHead, asked: ByteRange, from: string, mayQueue: boolean): ByteRange {
    const answer = readAnswer(head, asked);
    switch (answer.kind) {
      case 'later':
        throw new Passing(answer.why, { isBusy: true, pauseMs: answer.pauseMs });
      case 'refused':
        if (from !== this.#options.url) {
          // The address that a redirect gave is valid for a time only.
          this.#url = this.#options.url;
          throw new Moved(answer.why);
        }
        throw new BlockError('io', this.#about(answer.why));
      case 'unfit':
        if (mayQueue) {
          // A gateway in between may have mixed up the answers of requests that came together.
          this.#queues = false;
          throw new Passing(answer.why);
        }
        throw new BlockError('io', this.#about(answer.why));
      case 'changed':
        throw this.#change();
      case 'bytes':
        this.#check(answer.version);
    }
    this.#follow(head.url, from);
    return answer.range;
  }

  #check(version: ObjectVersion): void {
    if (this.#version === undefined) this.#version = version;
    else if (!isSameVersion(this.#version, version)) throw this.#change();
  }

  #change(): BlockError {
    if (this.#version === undefined) return new BlockError('io', this.#about('the object is empty'));
    this.#changed ??= new BlockError('io', `${this.#options.shown} has changed since it was opened: open it again`);
    return this.#changed;
  }

  /**
   * Later requests go where redirects led to, without asking for the way again. An answer without a
   * redirect tells nothing new: meanwhile the address of its request, `from`, may have expired.
   */
  #follow(url: string, from: string): void {
    if (url === '' || url === from) return;
    if (this.#options.url.startsWith('https:') && !url.startsWith('https:')) {
      const to = shownUrl(new URL(url));
      throw new BlockError('io', this.#about(`the server redirects to ${to}, which is not encrypted`));
    }
    this.#url = url;
  }

  /** Why a read ends: its own signal has aborted, or all reads are ended. */
  #reasonToEnd(signal: AbortSignal | undefined): Error | undefined {
    return [signal, this.#stop.signal].find((one) => one?.aborted)?.reason as Error | undefined;
  }

  #throwIfEnded(signal: AbortSignal | undefined): void {
    const reason = this.#reasonToEnd(signal);
    if (reason) throw reason;
  }

  async #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const either = new JoinedAbort(signal, this.#stop.signal);
    await pause(ms, either.signal);
    either.end();
  }

  #about(what: string): string {
    return `${this.#options.shown}: ${what}`;
  }

  /** Runs `work` when fewer than {@link mostRequests} run: until `until` it waits for that. */
  async #inTurn<T>(signal: AbortSignal | undefined, until: () => number, work: () => Promise<T>): Promise<T> {
    this.#throwIfEnded(signal);
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal, until);
    try {
      this.#throwIfEnded(signal);
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }

  /** Resolves when another request ends and leaves its place. */
  #turn(signal: AbortSignal | undefined, until: () => number): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        for (const unwatch of watches) unwatch();
      };
      const begin = (): void => (end(), resolve());
      const leave = (reason: Error): void => {
        end();
        this.#waiting.splice(this.#waiting.indexOf(begin), 1);
        reject(reason);
      };
      const check = (): void => {
        const left = until() - this.#clock.now();
        if (left > 0) timer = setTimeout(check, Math.min(left, longestTimer));
        else leave(new Passing('the server does not answer', { isBusy: true }));
      };
      let timer: ReturnType<typeof setTimeout> | undefined;
      const watches = [signal, this.#stop.signal].map((one) => onAbort(one, () => leave(one!.reason as Error)));
      this.#waiting.push(begin);
      check();
    });
  }
}
