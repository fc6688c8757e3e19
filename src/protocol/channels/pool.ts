/**
 * A pool of channels to one device on a server. It distributes requests, and handles the loss of
 * channels.
 *
 * Reads of a lost channel are sent again on another one. Writes too, but only after the lost
 * channel is fenced (Channel.fence): it can no longer write. Until then the pool sends no write at
 * all, so that no write can be overtaken by an older one. If fencing is impossible, the writes in
 * flight on the lost channel fail, and further writes to their blocks are refused.
 *
 * Requests wait for at most the user's reconnect time. After that they fail, and later requests
 * fail too until the server returns.
 */
import { messageOf } from '../../base/errors.js';
import { ThrottledLogger, type Logger } from '../../base/log.js';
import { BlockError } from '../../block/errors.js';
import type { Fate, Life, Mark } from '../../block/life.js';
import type { ContentWitness } from '../../block/witness.js';
import { breachOf, type Channel, type ChannelOpener, type RemoteFacts } from './channel.js';
import { Durability } from './durability.js';
import { Ranges } from './ranges.js';
import { otherDisk } from './same-disk.js';
import { RemoteRequest, type RemoteAsk } from './request.js';

/**
 * `reconnecting`: requests wait. `lost`: they fail immediately, and attempts to connect continue.
 * `closed`: for good.
 */
export type RemoteState = 'connected' | 'reconnecting' | 'lost' | 'closed';

export interface PoolOptions {
  /** The address, for messages. */
  readonly address: string;
  /** Most channels at the same time. */
  readonly channels: number;
  /** How long requests wait for a lost connection to return, in seconds. 0: do not reconnect. */
  readonly reconnectSeconds: number;
  /**
   * Watches the content, for servers whose marks do not show whether it is the same disk after a
   * reconnect.
   */
  readonly witness: ContentWitness | undefined;
  /** Stores the mark of each channel before the channel is used. */
  readonly life: Life | undefined;
  readonly log: Logger;
  readonly onState: (state: RemoteState, detail: string) => void;
}

/**
 * Pauses before attempts to reconnect or to fence, in ms: the first one, doubled each time up to
 * the last. Chosen, not measured.
 */
const firstPause = 100;
const lastPause = 2000;
/** Pause after a further channel could not be opened while others work, in ms. */
const growPause = 10_000;
/** A further channel is opened if every channel has at least this many requests in flight. */
const busy = 2;
/** How often a request is sent again although its connection was not lost. */
const maxRepeats = 4;
/** How long closing waits for requests in flight, with or without a connection, in ms. */
const closeMs = 4000;
/** Channels that are lost within this time are reported together, in ms. */
const reportMs = 100;

/** A lost channel, and the byte ranges of the writes that were in flight on it. */
interface Lost {
  readonly channel: Channel;
  readonly ranges: Ranges;
}

export class Pool {
  readonly facts: RemoteFacts;
  readonly #open: ChannelOpener;
  readonly #options: PoolOptions;
  readonly #log: ThrottledLogger;
  readonly #stop = new AbortController();
  readonly #channels = new Set<Channel>();
  readonly #durability: Durability;
  /** Boot id of the server, as the latest channel saw it. */
  #boot: string;
  #waiting: RemoteRequest[] = [];
  /** Lost channels that may still write. */
  #unfenced: Lost[] = [];
  #fencing = false;
  /** Blocks to which an older write may still come, because fencing was impossible. */
  readonly #doubtful = new Ranges();
  #state: RemoteState = 'connected';
  #reason = '';
  #failure: BlockError | undefined;
  #patience: number;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  /** The timer for the end of waiting for requests in flight, once closing is imminent. */
  #closing: ReturnType<typeof setTimeout> | undefined;
  #report: ReturnType<typeof setTimeout> | undefined;
  #wake: (() => void) | undefined;
  #growing = false;
  #growAfter = 0;

  /** @param first an open channel, whose facts become the device's */
  constructor(first: Channel, open: ChannelOpener, options: PoolOptions) {
    this.facts = first.facts;
    this.#open = open;
    this.#options = options;
    this.#patience = options.reconnectSeconds * 1000;
    this.#log = new ThrottledLogger(options.log);
    this.#boot = first.facts.boot;
    this.#durability = new Durability();
    this.#adopt(first);
  }

  /**
   * Runs a request. Its promise settles as RequestOptions.signal and the reconnect time prescribe.
   */
  run(ask: RemoteAsk): RemoteRequest {
    const request = new RemoteRequest(ask, (aborted) => this.#abandon(aborted));
    if (this.#state === 'closed') {
      request.fail(new BlockError('closed', 'the device is closed'));
    } else if (request.changes && this.#doubtful.overlaps(request.offset, request.length)) {
      request.fail(this.#doubt());
    } else if (this.#failure && this.#blocked(request)) {
      request.fail(this.#failure);
      // A caller needs the connection: shorten the pause.
      this.#wake?.();
    } else {
      this.#waiting.push(request);
      this.#pump();
    }
    return request;
  }

  /**
   * The pool will be closed soon: requests in flight fail unless they are answered within a short
   * time.
   */
  hurry(): void {
    this.#closing ??= setTimeout(() => this.#tooLate(), closeMs);
    this.#patience = Math.min(this.#patience, closeMs);
    if (this.#deadline === undefined) return;
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#giveUp(), this.#patience);
  }

  #tooLate(): void {
    this.#patience = 0;
    this.#reason = 'the device is being closed';
    for (const channel of this.#channels) if (channel.load > 0) channel.destroy();
    this.#giveUp();
  }

  /** Closes every channel, without a flush. Waiting requests fail with `closed`. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#enter('closed', '');
    clearTimeout(this.#deadline);
    clearTimeout(this.#closing);
    clearTimeout(this.#report);
    this.#stop.abort();
    this.#wake?.();
    for (const request of this.#waiting.splice(0)) request.fail(new BlockError('closed', 'the device is closed'));
    await Promise.all([...this.#channels].map((channel) => channel.close()));
    this.#channels.clear();
  }

  /** True if no request that was sent can still change the device. */
  get quiet(): boolean {
    return this.#unfenced.length === 0 && this.#doubtful.empty && [...this.#channels].every(({ load }) => load === 0);
  }

  /**
   * Fences the processes that an earlier process of ours left with that mark. If it rejects, try
   * again later.
   */
  async fence(mark: Mark): Promise<Fate> {
    const by = this.#channels.values().next().value;
    if (!by) throw new Error(this.#reason || 'there is no connection');
    return by.fence(mark);
  }

  /** True if a request has to wait for a channel or a fence. */
  #blocked(request: RemoteRequest): boolean {
    return this.#channels.size === 0 || (request.changes && this.#unfenced.length > 0);
  }

  #pump(): void {
    if (this.#state === 'closed' || this.#waiting.length === 0) return;
    const rest: RemoteRequest[] = [];
    const waiting = this.#waiting;
    for (let at = 0; at < waiting.length; at++) {
      const request = waiting[at]!;
      const channel = this.#blocked(request) ? undefined : this.#idlest(request);
      if (!channel) rest.push(request);
      else this.#send(channel, request);
    }
    this.#waiting = rest;
    this.#grow();
  }

  #idlest(request: RemoteRequest): Channel | undefined {
    let best: Channel | undefined;
    for (const channel of this.#channels) {
      if (channel.hasRoom(request) && (!best || channel.load < best.load)) best = channel;
    }
    return best;
  }

  #send(channel: Channel, request: RemoteRequest): void {
    if (request.op === 'flush') {
      const lost = this.#durability.flushing(request);
      if (lost) return request.fail(lost);
    }
    channel.send(request);
  }

  /** Opens a further channel if all are busy. */
  #grow(): void {
    const { size } = this.#channels;
    if (this.#growing || size === 0 || size >= this.#options.channels || performance.now() < this.#growAfter) return;
    for (const channel of this.#channels) if (channel.load < busy) return;
    this.#growing = true;
    this.#connect()
      .then((channel) => this.#resume(channel))
      .catch((error: unknown) => {
        this.#growAfter = performance.now() + growPause;
        this.#say('debug', 'grow', `no further session: ${messageOf(error)}`);
      })
      .finally(() => (this.#growing = false));
  }

  #adopt(channel: Channel): void {
    this.#channels.add(channel);
    channel.start({
      answered: (request, error) => this.#answered(request, error),
      again: (requests) => this.#again(requests),
      room: () => this.#pump(),
      lost: (reason, unfinished) => this.#lost(channel, reason, unfinished),
    });
  }

  #answered(request: RemoteRequest, error: BlockError | undefined): void {
    if (error) return request.fail(error);
    this.#durability.done(request);
    request.succeed();
  }

  #again(requests: readonly RemoteRequest[]): void {
    const kept: RemoteRequest[] = [];
    for (const request of requests) {
      if (request.aborted) request.fail(givenUp());
      else if (++request.repeats > maxRepeats) {
        request.fail(
          new BlockError('io', `${this.#options.address}: the server's answers are mixed with other output`),
        );
      } else kept.push(request);
    }
    this.#waiting = [...kept, ...this.#waiting];
    queueMicrotask(() => this.#pump());
  }

  /**
   * The caller aborts a request. A request that the server may be working on waits for its answer.
   */
  #abandon(request: RemoteRequest): void {
    const at = this.#waiting.indexOf(request);
    if (at < 0) return;
    // A request that lost its channel can be dropped too: no write is sent before that channel is
    // fenced.
    this.#waiting.splice(at, 1);
    request.fail(givenUp());
  }

  #lost(channel: Channel, reason: string, unfinished: readonly RemoteRequest[]): void {
    if (!this.#channels.delete(channel) || this.#state === 'closed') {
      for (const request of unfinished) request.fail(new BlockError('closed', 'the device is closed'));
      return;
    }
    const now = performance.now();
    const ranges = new Ranges();
    const again: RemoteRequest[] = [];
    this.#reason = reason;
    const unreachable = this.#unreachable();
    for (const request of unfinished) {
      if (request.changes) ranges.add(request.offset, request.length);
      request.lostAt ??= now;
      if (request.aborted) request.fail(givenUp());
      else if (now - request.lostAt >= this.#patience) request.fail(unreachable);
      else again.push(request);
    }
    if (!ranges.empty) this.#unfenced.push({ channel, ranges });
    else this.#options.life?.forget(channel.mark);
    this.#waiting = [...again, ...this.#waiting];
    const alone = this.#channels.size === 0;
    this.#report ??= setTimeout(() => this.#reportLoss(reason), reportMs);
    if (alone) this.#disconnected();
    this.#watch();
    void this.#fence();
    this.#pump();
  }

  /** Reports channels that were lost together in one message. */
  #reportLoss(reason: string): void {
    this.#report = undefined;
    const what = this.#state === 'connected' ? 'one session' : 'connection';
    this.#say('warn', 'lost', `${what} lost: ${reason}`);
  }

  #disconnected(): void {
    if (this.#patience === 0) return this.#failAll(this.#unreachable());
    this.#enter('reconnecting', this.#reason);
    void this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    for (let pause = firstPause; this.#state !== 'closed'; pause = Math.min(2 * pause, lastPause)) {
      await this.#pause(pause);
      if (this.#stop.signal.aborted || this.#channels.size > 0) return;
      try {
        return this.#resume(await this.#connect());
      } catch (error) {
        this.#reason = messageOf(error);
        this.#say('debug', 'attempt', this.#reason);
      }
    }
  }

  /** Opens a channel to the same device. */
  async #connect(): Promise<Channel> {
    const channel = await this.#open(this.#stop.signal);
    const { address, witness, life } = this.#options;
    try {
      const breach =
        breachOf(this.facts, channel.facts) ?? (witness && (await otherDisk(this.facts, channel, witness)));
      if (breach !== undefined) throw new Error(`${address}: ${breach}`);
      if (this.#state !== 'closed') await life?.note(channel.mark);
      return channel;
    } catch (error) {
      channel.destroy();
      throw error;
    }
  }

  #resume(channel: Channel): void {
    if (this.#state === 'closed') return void channel.close();
    if (channel.facts.boot !== this.#boot) this.#rebooted(channel.facts.boot);
    this.#adopt(channel);
    this.#calm();
    if (this.#state !== 'connected') {
      this.#say('info', 'connected', `connected again, ${this.#waiting.length} requests waited`);
      this.#enter('connected', this.#options.address);
    }
    void this.#fence();
    this.#pump();
  }

  /**
   * The server's system has restarted: no old process of ours is left, and unflushed writes may be
   * lost.
   */
  #rebooted(boot: string): void {
    const known = this.#boot !== '' && boot !== '';
    this.#boot = boot;
    if (!known) return;
    for (const { channel } of this.#unfenced) this.#options.life?.forget(channel.mark);
    this.#unfenced = [];
    const lost = this.#durability.restarted();
    if (lost) this.#say('error', 'unflushed', lost.message);
    for (const channel of [...this.#channels]) channel.destroy();
  }

  /** Fences the lost channels, one after the other. */
  async #fence(): Promise<void> {
    if (this.#fencing) return;
    this.#fencing = true;
    for (let pause = firstPause; this.#unfenced.length > 0 && this.#state !== 'closed';) {
      const lost = this.#unfenced[0]!;
      const by = this.#channels.values().next().value;
      if (!by) break;
      try {
        const fate = await by.fence(lost.channel.mark);
        const at = this.#unfenced.indexOf(lost);
        if (at >= 0) this.#unfenced.splice(at, 1);
        if (fate === 'gone') this.#options.life?.forget(lost.channel.mark);
        if (at >= 0 && fate === 'unknown') this.#reportDoubt(lost.ranges);
        pause = firstPause;
      } catch (error) {
        this.#reason = messageOf(error);
        this.#say('debug', 'fence', this.#reason);
        await this.#pause(pause);
        pause = Math.min(2 * pause, lastPause);
      }
    }
    this.#fencing = false;
    this.#calm();
    this.#pump();
  }

  /**
   * It is unknown whether the writes in flight on a lost channel will still happen: fail them, and
   * refuse further writes to their blocks.
   */
  #reportDoubt(ranges: Ranges): void {
    this.#say(
      'error',
      'doubt',
      'a session was lost with writes in flight, and the server cannot say whether they still run',
    );
    ranges.each((start, end) => this.#doubtful.add(start, end - start));
    this.#failWaiting(
      this.#doubt(),
      (request) => request.changes && this.#doubtful.overlaps(request.offset, request.length),
    );
  }

  #doubt(): BlockError {
    return new BlockError(
      'io',
      `${this.#options.address}: the connection was lost during a write of these blocks, which may still be in flight: open the device again`,
    );
  }

  /** Starts the limit on the time that requests wait. */
  #watch(): void {
    if (this.#channels.size > 0 && this.#unfenced.length === 0) return;
    // Even without reconnecting, there is a fence to wait for.
    this.#deadline ??= setTimeout(() => this.#giveUp(), this.#patience || closeMs);
  }

  /** Cancels the limit if no request has to wait any more. */
  #calm(): void {
    if (this.#channels.size === 0 || this.#unfenced.length > 0) return;
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
    this.#failure = undefined;
  }

  /** The time to reconnect is over: waiting requests fail. Attempts to connect continue. */
  #giveUp(): void {
    if (this.#state !== 'closed') this.#failAll(this.#unreachable());
  }

  #failAll(error: BlockError): void {
    if (this.#failure?.message !== error.message) this.#say('error', 'failed', error.message);
    this.#failure = error;
    this.#failWaiting(error, (request) => this.#blocked(request));
    if (this.#channels.size === 0) this.#enter('lost', error.message);
  }

  #failWaiting(error: BlockError, which: (request: RemoteRequest) => boolean): void {
    const failing = this.#waiting.filter(which);
    if (failing.length === 0) return;
    this.#waiting = this.#waiting.filter((request) => !failing.includes(request));
    for (const request of failing) request.fail(error);
  }

  #unreachable(): BlockError {
    const { address, reconnectSeconds } = this.#options;
    const waited = reconnectSeconds > 0 ? ` for ${reconnectSeconds} seconds` : '';
    return new BlockError('unreachable', `${address} is not reachable${waited}: ${this.#reason}`);
  }

  #enter(state: RemoteState, detail: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onState(state, detail);
  }

  #say(level: 'debug' | 'info' | 'warn' | 'error', key: string, message: string): void {
    const { address } = this.#options;
    this.#log.log(level, key, message.includes(address) ? message : `${address}: ${message}`);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const began = performance.now();
      const end = (): void => {
        clearTimeout(timer);
        if (this.#wake === wake) this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      const wake = (): void => {
        // A caller that retries again and again must not make us reconnect as often.
        if (performance.now() - began >= firstPause || this.#state === 'closed') end();
      };
      this.#wake = wake;
    });
  }
}

function givenUp(): BlockError {
  return new BlockError('aborted', 'given up');
}
