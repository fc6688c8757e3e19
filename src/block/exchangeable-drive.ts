/**
 * A virtual removable drive: a program inserts any block device as its medium and removes it while
 * the drive is in use.
 */
import { hexOf } from '../base/hex.js';
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from './device.js';
import { BlockError } from './errors.js';
import { RemovableDrive, type DriveFacts } from './removable-drive.js';

export class ExchangeableDrive extends RemovableDrive {
  /**
   * Random part of media names: a client may still know names of a drive that a restart has
   * replaced.
   */
  readonly #life = hexOf(crypto.getRandomValues(new Uint8Array(6)));
  #count = 0;
  #locked = false;

  /** @param medium the medium that is in the drive from the start */
  constructor(facts: DriveFacts, medium?: BlockDevice) {
    super(facts);
    if (medium) this.put(medium, this.#name());
    this.opened();
  }

  get loaded(): boolean {
    return this.inside !== undefined;
  }

  /** True if a client has locked the medium. */
  get locked(): boolean {
    return this.#locked;
  }

  /**
   * Inserts a medium, which is closed when it leaves.
   * @throws FarbusError if the drive is not empty
   */
  insert(medium: BlockDevice): void {
    if (this.loaded) throw new FarbusError('there is a medium in the drive: eject it first');
    this.put(medium, this.#name());
  }

  /** Removes the medium even if a client has locked it. Resolves when the medium is closed. */
  remove(): Promise<void> {
    this.#locked = false;
    return this.take();
  }

  protected async doEject(): Promise<void> {
    if (this.#locked) throw new BlockError('read-only', 'the medium is locked');
    // Not awaited: requests that are still in flight must not delay the eject.
    void this.take();
  }

  protected async doLock(locked: boolean): Promise<void> {
    this.#locked = locked && this.loaded;
  }

  #name(): string {
    return `${this.#life}.${++this.#count}`;
  }
}
