/**
 * SharedMedia: shares one drive with removable media among the clients of an export. Each client
 * may lock the medium; while one holds a lock, no other may eject the medium. On an export with one
 * writer only the writer may eject. A client that disconnects loses its lock.
 */
import type { BlockDevice, RemovableMedia } from '../block/device.js';
import { BlockError } from '../block/errors.js';
import { Filter } from '../block/filters/filter.js';

export class SharedMedia {
  readonly #holders = new Set<string>();
  /**
   * Resolves when the drive has executed all locks and unlocks so far: they run one after another.
   */
  #told: Promise<void> = Promise.resolve();

  /** True if a client has locked the medium. */
  get held(): boolean {
    return this.#holders.size > 0;
  }

  /**
   * The device as seen by one client.
   * @param mayEject returns true if the client may eject now, apart from locks of other clients
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

  /** Call when a client has disconnected: removes its lock. */
  leave(media: RemovableMedia, client: string): void {
    if (this.#holders.has(client)) void this.#lock(media, client, false).catch(() => undefined);
  }

  /**
   * Sets or removes a client's lock. The drive is locked while at least one client holds a lock.
   */
  #lock(media: RemovableMedia, client: string, locked: boolean): Promise<void> {
    const before = this.#holders.size > 0;
    if (locked) this.#holders.add(client);
    else this.#holders.delete(client);
    const after = this.#holders.size > 0;
    if (before === after) return this.#told;
    // Ignore failures: many drives have no lock, and ejects of other clients are refused here
    // anyway.
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

  /** Does not close the device, which belongs to the export. */
  protected override doClose(): Promise<void> {
    return Promise.resolve();
  }
}
