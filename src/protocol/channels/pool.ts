/**
 * A pool of channels to one device on a server. It distributes requests, and handles the loss of
 * channels.
 *
 * Reads of a lost channel are sent again on another one. Writes too, but only after the lost
 * channel is fenced (channel-fence.ts). If fencing is impossible, the writes in flight on the lost
 * channel fail, and further writes to their blocks are refused.
 *
 * Not here: how long requests wait, and when attempts are made (remote/reconnection.ts).
 */
import { messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { abortedError, BlockError, closedError } from '../../block/errors.js';
import type { Fate, Life, FenceKey } from '../../block/life.js';
import type { ContentWitness } from '../../block/witness.js';
import { Durability } from '../remote/durability.js';
import { Reconnection, type RemoteState } from '../remote/reconnection.js';
import { ChannelFence } from './channel-fence.js';
import { breachOf, type Channel, type ChannelOpener, type RemoteFacts } from './channel.js';
import { Ranges } from './ranges.js';
import { otherDisk } from './same-disk.js';
import { RemoteRequest, type RemoteAsk } from './request.js';

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
  /** Stores the fence key of each channel before the channel is used. */
  readonly life: Life | undefined;
  readonly log: Logger;
  readonly onState: (state: RemoteState, detail: string) => void;
}

/** Pause after a further channel could not be opened while others work, in ms. */
const growPause = 10_000;
/** A further channel is opened if every channel has at least this many requests in flight. */
const busy = 2;
/** How often a request is sent again although its connection was not lost. */
const maxRepeats = 4;
/** Channels that are lost within this time are reported together, in ms. */
const reportMs = 100;

export class Pool {
  readonly facts: RemoteFacts;
  readonly #open: ChannelOpener;
  readonly #options: PoolOptions;
  readonly #reconnection: Reconnection;
  readonly #fence: ChannelFence;
  readonly #channels = new Set<Channel>();
  readonly #durability = new Durability();
  /** Boot id of the server, as the latest channel saw it. */
  #boot: string;
  #waiting: RemoteRequest[] = [];
  #report: ReturnType<typeof setTimeout> | undefined;
  #growing = false;
  #growAfter = 0;

  /** @param first an open channel, whose facts become the device's */
  constructor(first: Channel, open: ChannelOpener, options: PoolOptions) {
    this.facts = first.facts;
    this.#open = open;
    this.#options = options;
    this.#boot = first.facts.boot;
    this.#reconnection = new Reconnection({
      ...options,
      connected: true,
      failWaiting: (error) => this.#failWaiting(error, (request) => this.#blocked(request)),
      cutOff: () => {
        for (const channel of this.#channels) if (channel.load > 0) channel.destroy();
      },
    });
    this.#fence = new ChannelFence({
      reconnection: this.#reconnection,
      life: options.life,
      by: () => this.#channels.values().next().value,
      doubted: () => this.#failWaiting(this.#doubt(), (request) => this.#doubts(request)),
      ended: () => {
        this.#calm();
        this.#pump();
      },
    });
    this.#adopt(first);
  }

  /** {@link Reconnection.away} */
  get away(): number | undefined {
    return this.#reconnection.away;
  }

  /**
   * Runs a request. Its promise settles as RequestOptions.signal and the reconnect time prescribe.
   */
  run(ask: RemoteAsk): RemoteRequest {
    const request = new RemoteRequest(ask, (aborted) => this.#abandon(aborted));
    const { state, failure } = this.#reconnection;
    if (state === 'closed') {
      request.fail(closedError());
    } else if (this.#doubts(request)) {
      request.fail(this.#doubt());
    } else if (failure && this.#blocked(request)) {
      request.fail(failure);
      this.#reconnection.hurryAttempts();
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
    this.#reconnection.hurry();
  }

  /** Closes every channel, without a flush. Waiting requests fail with `closed`. */
  async close(): Promise<void> {
    if (!this.#reconnection.close()) return;
    clearTimeout(this.#report);
    this.#failWaiting(closedError(), () => true);
    await Promise.all([...this.#channels].map((channel) => channel.close()));
    this.#channels.clear();
  }

  get witness(): ContentWitness | undefined {
    return this.#options.witness;
  }

  /** True if no request that was sent can still change the device. */
  get quiet(): boolean {
    return this.#fence.quiet && [...this.#channels].every(({ load }) => load === 0);
  }

  /**
   * Fences the processes that an earlier process of ours left with that key. If it rejects, try
   * again later.
   */
  async fence(key: FenceKey): Promise<Fate> {
    const by = this.#channels.values().next().value;
    if (!by) throw new Error(this.#reconnection.reason || 'there is no connection');
    return by.fence(key);
  }

  /** True if a request has to wait for a channel or a fence. */
  #blocked(request: RemoteRequest): boolean {
    return this.#channels.size === 0 || (request.changes && this.#fence.pending);
  }

  /** True if an older write may still come to the blocks that a request changes. */
  #doubts({ changes, offset, length }: RemoteRequest): boolean {
    return changes && this.#fence.doubts(offset, length);
  }

  #pump(): void {
    if (this.#reconnection.state === 'closed' || this.#waiting.length === 0) return;
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
        this.#reconnection.say('debug', 'grow', `no further session: ${messageOf(error)}`);
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
    this.#reconnection.answered();
    if (error) return request.fail(error);
    if (request.changes) this.#durability.wrote();
    else if (request.op === 'flush') this.#durability.flushed(request);
    request.succeed();
  }

  #again(requests: readonly RemoteRequest[]): void {
    const kept: RemoteRequest[] = [];
    for (const request of requests) {
      if (request.aborted) request.fail(abortedError());
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
    request.fail(abortedError());
  }

  #lost(channel: Channel, reason: string, unfinished: readonly RemoteRequest[]): void {
    const { state } = this.#reconnection;
    if (!this.#channels.delete(channel) || state === 'closed') {
      for (const request of unfinished) request.fail(closedError());
      return;
    }
    const ranges = new Ranges();
    for (const request of unfinished) if (request.changes) ranges.add(request.offset, request.length);
    this.#fence.add(channel, ranges);
    this.#waiting = [...this.#reconnection.keep(unfinished, reason), ...this.#waiting];
    this.#report ??= setTimeout(() => this.#reportLoss(reason), reportMs);
    if (this.#channels.size === 0 && this.#reconnection.lost(reason)) {
      void this.#reconnection.retry(() => this.#reconnect(), { key: 'attempt' });
    }
    if (this.#channels.size === 0 || this.#fence.pending) this.#reconnection.watch();
    void this.#fence.run();
    this.#pump();
  }

  /** Reports channels that were lost together in one message. */
  #reportLoss(reason: string): void {
    this.#report = undefined;
    const what = this.#reconnection.state === 'connected' ? 'one session' : 'connection';
    this.#reconnection.say('warn', 'lost', `${what} lost: ${reason}`);
  }

  async #reconnect(): Promise<boolean> {
    if (this.#channels.size === 0) this.#resume(await this.#connect());
    return true;
  }

  /** Opens a channel to the same device. */
  async #connect(): Promise<Channel> {
    const channel = await this.#open(this.#reconnection.stop);
    const { address, witness, life } = this.#options;
    try {
      const breach =
        breachOf(this.facts, channel.facts) ?? (witness && (await otherDisk(this.facts, channel, witness)));
      if (breach !== undefined) throw new Error(`${address}: ${breach}`);
      if (this.#reconnection.state !== 'closed') await life?.note(channel.fenceKey);
      return channel;
    } catch (error) {
      channel.destroy();
      throw error;
    }
  }

  #resume(channel: Channel): void {
    if (this.#reconnection.state === 'closed') return void channel.close();
    if (channel.facts.boot !== this.#boot) this.#rebooted(channel.facts.boot);
    this.#adopt(channel);
    this.#calm();
    if (this.#reconnection.state !== 'connected') {
      this.#reconnection.say('info', 'connected', `connected again, ${this.#waiting.length} requests waited`);
      this.#reconnection.connected();
    }
    void this.#fence.run();
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
    this.#fence.rebooted();
    const lost = this.#durability.restarted();
    if (lost) this.#reconnection.say('error', 'unflushed', lost.message);
    for (const channel of [...this.#channels]) channel.destroy();
  }

  #doubt(): BlockError {
    return new BlockError(
      'io',
      `${this.#options.address}: the connection was lost during a write of these blocks, which may still be in flight: open the device again`,
    );
  }

  /** Requests wait no longer, if no channel and no fence is missing. */
  #calm(): void {
    if (this.#channels.size > 0 && !this.#fence.pending) this.#reconnection.calm();
  }

  #failWaiting(error: BlockError, which: (request: RemoteRequest) => boolean): void {
    const failing = this.#waiting.filter(which);
    if (failing.length === 0) return;
    this.#waiting = this.#waiting.filter((request) => !failing.includes(request));
    for (const request of failing) request.fail(error);
  }
}
