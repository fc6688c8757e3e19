/**
 * The removable medium of a Farbus server's export, as a BlockDevice's `media`, by our extension of
 * NBD (spec.ts, `mediaContext`).
 *
 * An NBD server cannot notify its client. So while there is a watcher, the server is asked every
 * second whether the medium is still there.
 */
import type { RemovableMedia, RequestOptions } from '../../../block/device.js';
import { NbdCommand, MediaAction } from '../spec.js';
import type { Sessions } from './group.js';

/** Polling interval, in ms. */
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
      // The server released the lock when the old connection ended: lock again.
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
    // Poll now, so that watchers learn soon that the drive is empty.
    void this.#ask();
  }

  async lock(locked: boolean, options: RequestOptions = {}): Promise<void> {
    await this.#act(locked ? MediaAction.lock : MediaAction.unlock, options);
    this.#locked = locked;
  }

  /** Stops polling. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #act(action: number, { signal, medium = this.first }: RequestOptions): Promise<void> {
    return this.#session.run({ type: NbdCommand.media, offset: action, length: 0, signal, medium }).done;
  }

  /**
   * Polls once. The session evaluates the answer (it sees `no-medium`). At most one poll is in
   * flight.
   */
  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    await this.#act(MediaAction.check, { medium: this.medium }).catch(() => undefined);
    this.#asking = false;
  }
}
