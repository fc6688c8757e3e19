/**
 * One removable medium among the clients of its export: each may hold it, and while one does, no other ejects it. Where one
 * client writes at a time, no other ejects either. A client that goes lets go.
 */
import type { BlockDevice, RemovableMedia } from '../block/device.js';
import { BlockError } from '../block/errors.js';
import { Filter } from '../block/filters/filter.js';

export class SharedMedia {
  readonly #holders = new Set<string>();
  /** Locks reach the drive one after the other. */
  #told: Promise<void> = Promise.resolve();

  /** Whether a client holds it. */
  get held(): boolean {
    return this.#holders.size > 0;
  }

  /**
   * The device as a client has it.
   * @param mayEject Whether it may at present, as far as others' locks do not count.
   */
  side(device: BlockDevice, media: RemovableMedia, client: string, mayEject: () => boolean): BlockDevice {
    return new MediaSide(device, {
      get medium() {
        return media.medium;
      },
      get first() {
        return media.first;
      },
      watch: (listener) => media.watch(listener),
      eject: async (options) => {
        const others = [...this.#holders].some((one) => one !== client);
        if (others || !mayEject()) throw new BlockError('read-only', 'another client holds the medium');
        await this.#lock(media, client, false);
        await media.eject(options);
      },
      lock: (locked) => this.#lock(media, client, locked),
    });
  }

  /** The client has gone. */
  leave(media: RemovableMedia, client: string): void {
    if (this.#holders.has(client)) void this.#lock(media, client, false).catch(() => undefined);
  }

  /** The drive is locked as long as anybody holds its medium. */
  #lock(media: RemovableMedia, client: string, locked: boolean): Promise<void> {
    const before = this.#holders.size > 0;
    if (locked) this.#holders.add(client);
    else this.#holders.delete(client);
    const after = this.#holders.size > 0;
    if (before === after) return this.#told;
    // Many drives have no lock. The others' ejects are refused here all the same.
    return (this.#told = this.#told.then(() => media.lock(after)).catch(() => undefined));
  }
}

class MediaSide extends Filter {
  readonly #media: RemovableMedia;

  constructor(device: BlockDevice, media: RemovableMedia) {
    super(device);
    this.#media = media;
  }

  override get media(): RemovableMedia {
    return this.#media;
  }

  /** The device is the export's. */
  protected override doClose(): Promise<void> {
    return Promise.resolve();
  }
}
