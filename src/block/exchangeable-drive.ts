/** A removable drive that somebody at the server fills: any device is put in as its medium, and taken out, while it is used. */
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from './device.js';
import { BlockError } from './errors.js';
import { RemovableDrive, type DriveFacts } from './removable-drive.js';

export class ExchangeableDrive extends RemovableDrive {
  /** Tells the media of this drive's life from those of another one's, of which a client may still know. */
  readonly #life = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
  #count = 0;
  #locked = false;

  /** @param medium What is in it from the start. */
  constructor(facts: DriveFacts, medium?: BlockDevice) {
    super(facts);
    if (medium) this.put(medium, this.#name());
    this.opened();
  }

  get loaded(): boolean {
    return this.inside !== undefined;
  }

  /** A client holds the medium. */
  get locked(): boolean {
    return this.#locked;
  }

  /** Puts a medium in, which is closed when it leaves. @throws FarbusError where there is one. */
  insert(medium: BlockDevice): void {
    if (this.loaded) throw new FarbusError('there is a medium in the drive: eject it first');
    this.put(medium, this.#name());
  }

  /** Takes the medium out, whoever holds it; resolves when it is closed. */
  remove(): Promise<void> {
    this.#locked = false;
    return this.take();
  }

  protected async doEject(): Promise<void> {
    if (this.#locked) throw new BlockError('read-only', 'the medium is locked');
    // Nobody waits for requests that its device may still have.
    void this.take();
  }

  protected async doLock(locked: boolean): Promise<void> {
    this.#locked = locked && this.loaded;
  }

  #name(): string {
    return `${this.#life}.${++this.#count}`;
  }
}
