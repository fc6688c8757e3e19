/**
 * The removable medium of a Farbus server's export, as BlockDevice offers it: over our extension of NBD (spec.ts,
 * `mediaContext`). The server cannot call: while somebody watches, it is asked every second whether the medium is still there.
 */
import type { RemovableMedia, RequestOptions } from '../../../block/device.js';
import { Command, MediaAction } from '../spec.js';
import type { Sessions } from './group.js';

/** How often a server is asked, in ms. */
const pollMs = 1000;

export class FarMedia implements RemovableMedia {
  readonly first: string;
  readonly #session: Sessions;
  readonly #watchers = new Set<() => void>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #asking = false;
  #locked = false;

  constructor(session: Sessions) {
    this.#session = session;
    this.first = this.medium;
    session.onMedium = (changed) => {
      // The server has forgotten the lock with the old connection.
      if (this.#locked && !changed) void this.#act(MediaAction.lock, { medium: this.medium }).catch(() => undefined);
      if (!changed) return;
      this.#locked = false;
      for (const one of [...this.#watchers]) one();
    };
  }

  get medium(): string {
    return this.#session.medium ?? '';
  }

  watch(listener: () => void): () => void {
    const own = (): void => listener();
    this.#watchers.add(own);
    this.#timer ??= setInterval(() => void this.#ask(), pollMs);
    return () => {
      this.#watchers.delete(own);
      if (this.#watchers.size === 0) this.stop();
    };
  }

  async eject(options: RequestOptions = {}): Promise<void> {
    await this.#act(MediaAction.eject, options);
    // That the drive is empty now is told as soon as it can be.
    void this.#ask();
  }

  async lock(locked: boolean, options: RequestOptions = {}): Promise<void> {
    await this.#act(locked ? MediaAction.lock : MediaAction.unlock, options);
    this.#locked = locked;
  }

  /** Asks no more. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #act(action: number, { signal, medium = this.first }: RequestOptions): Promise<void> {
    return this.#session.run({ type: Command.media, offset: action, length: 0, signal, medium }).done;
  }

  /** What the answer means is the session's to find out. One that does not come is not asked for again. */
  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    await this.#act(MediaAction.check, { medium: this.medium }).catch(() => undefined);
    this.#asking = false;
  }
}
