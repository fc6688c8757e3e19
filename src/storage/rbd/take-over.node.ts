/**
 * An image that several gateways serve. Each has it open, and takes it over from the others when a
 * client that may write is admitted: it breaks the exclusive lock, and the cluster blocklists the
 * earlier holder, before the client gets an answer.
 *
 * An open image has the lock once. After that a request for it fails for ever, so that no request
 * of an old connection can run after another gateway's. The next client gets a new one.
 */
import { createHash } from 'node:crypto';
import type { Logger } from '../../base/log.js';
import type { TakeOver } from '../../block/writer-lock.js';
import { RbdImage, type RbdImageOptions } from './image.node.js';
import type { RbdLocation } from './location.js';

export class RbdTakeOver implements TakeOver {
  readonly storage: string;
  onLost: () => void = () => undefined;
  readonly #location: RbdLocation;
  readonly #options: Omit<RbdImageOptions, 'shared'>;
  readonly #log: Logger;
  #image: RbdImage;
  /** True from the moment when the present image takes the lock. */
  #took = false;
  #has = false;

  private constructor(location: RbdLocation, options: RbdImageOptions, ended: Ended) {
    this.#location = location;
    this.#options = options;
    this.#log = options.log;
    this.#image = ended.image;
    this.storage = createHash('sha256').update(ended.image.name).digest('hex').slice(0, 40);
    ended.tell = () => this.#lost(ended.image);
  }

  static async open(location: RbdLocation, options: Omit<RbdImageOptions, 'shared'>): Promise<RbdTakeOver> {
    return new RbdTakeOver(location, options, await opened(location, options));
  }

  /** The open image. */
  get image(): RbdImage {
    return this.#image;
  }

  /** True if the open image may be changed: it has taken the lock. */
  get has(): boolean {
    return this.#has;
  }

  get spent(): boolean {
    return this.#took || this.#image.ended !== undefined;
  }

  async ready(writes: boolean): Promise<boolean> {
    if (this.#image.ended) return false;
    return !writes || (this.#has && (await this.#image.hasLock()));
  }

  async take(writes: boolean): Promise<void> {
    if (this.spent) {
      const next = await opened(this.#location, this.#options);
      const old = this.#image;
      [this.#image, this.#took, this.#has] = [next.image, false, false];
      next.tell = () => this.#lost(next.image);
      // It waits for the cluster, perhaps for long.
      old.close().catch((error: unknown) => this.#log.log('debug', String(error)));
    }
    if (!writes) return;
    this.#took = true;
    await this.#image.takeLock();
    this.#has = this.#image.ended === undefined;
  }

  #lost(image: RbdImage): void {
    if (image !== this.#image) return;
    this.#has = false;
    this.#log.log('warn', image.ended!.message);
    this.onLost();
  }
}

/** An image, and the function to call when it has ended. */
interface Ended {
  readonly image: RbdImage;
  tell: () => void;
}

async function opened(location: RbdLocation, options: Omit<RbdImageOptions, 'shared'>): Promise<Ended> {
  let tell: () => void = () => undefined;
  const image = await RbdImage.open(location, { ...options, shared: { ended: () => tell() } });
  return {
    image,
    set tell(next: () => void) {
      tell = next;
    },
  };
}
