/**
 * Fences the lost channels of a pool: makes sure that what they left on the server can no longer
 * write. Until then the pool sends no write at all, so that an older write cannot overtake a newer
 * one.
 *
 * If the server cannot tell whether a lost channel still writes, its blocks stay doubtful: writes
 * to them are refused for good.
 */
import type { Life } from '../../block/life.js';
import type { Reconnection } from '../remote/reconnection.js';
import type { Channel } from './channel.js';
import { Ranges } from './ranges.js';

export interface ChannelFenceOptions {
  readonly reconnection: Reconnection;
  readonly life: Life | undefined;
  /** A channel that can fence others; undefined if there is none at present. */
  readonly by: () => Channel | undefined;
  /** Called when further blocks have become doubtful. */
  readonly doubted: () => void;
  /** Called when there is nothing left to fence, or no channel to do it with. */
  readonly ended: () => void;
}

/** A lost channel, and the byte ranges of the writes that were in flight on it. */
interface Lost {
  readonly channel: Channel;
  readonly ranges: Ranges;
}

export class ChannelFence {
  readonly #options: ChannelFenceOptions;
  /** Lost channels that may still write. */
  #unfenced: Lost[] = [];
  #running = false;
  /** Blocks to which an older write may still come, because fencing was impossible. */
  readonly #doubtful = new Ranges();

  constructor(options: ChannelFenceOptions) {
    this.#options = options;
  }

  /** True while a lost channel may still write. */
  get pending(): boolean {
    return this.#unfenced.length > 0;
  }

  /** True if no write of a lost channel can take effect any more. */
  get quiet(): boolean {
    return !this.pending && this.#doubtful.empty;
  }

  /** True if an older write may still come to one of these bytes. */
  doubts(offset: number, length: number): boolean {
    return this.#doubtful.overlaps(offset, length);
  }

  /** @param ranges of the writes that were in flight when the channel was lost */
  add(channel: Channel, ranges: Ranges): void {
    if (ranges.empty) this.#options.life?.forget(channel.fenceKey);
    else this.#unfenced.push({ channel, ranges });
  }

  /** The server's system has restarted: nothing of a lost channel is left there. */
  rebooted(): void {
    for (const { channel } of this.#unfenced) this.#options.life?.forget(channel.fenceKey);
    this.#unfenced = [];
  }

  /** Fences the lost channels, one after the other, as long as there is a channel to do it with. */
  async run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    const { reconnection } = this.#options;
    await reconnection.retry(() => this.#fenceAll(), { key: 'fence', atOnce: true });
    this.#running = false;
    this.#options.ended();
  }

  /** Rejects if a channel is not fenced yet. */
  async #fenceAll(): Promise<boolean> {
    const { reconnection, life, by } = this.#options;
    while (this.pending && reconnection.state !== 'closed') {
      const lost = this.#unfenced[0]!;
      const channel = by();
      if (!channel) break;
      const fate = await channel.fence(lost.channel.fenceKey);
      const at = this.#unfenced.indexOf(lost);
      if (at >= 0) this.#unfenced.splice(at, 1);
      if (fate === 'gone') life?.forget(lost.channel.fenceKey);
      if (at >= 0 && fate === 'unknown') this.#doubt(lost.ranges);
    }
    return true;
  }

  /** It is unknown whether the writes in flight on a lost channel will still happen. */
  #doubt(ranges: Ranges): void {
    const what = 'a session was lost with writes in flight, and the server cannot say whether they still run';
    this.#options.reconnection.say('error', 'doubt', what);
    ranges.each((start, end) => this.#doubtful.add(start, end - start));
    this.#options.doubted();
  }
}
