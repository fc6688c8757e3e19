/**
 * Where a removable drive has its medium: loaded, locked, ejected, vanished, and what the guest is still to be told of it
 * (SPC-3 5.14 unit attention, MMC-5 4.1.6 and 6.6 events). What is put in may itself be a far drive whose medium comes
 * and goes (BlockDevice.media): the bay then has what that drive has.
 */
import type { BlockDevice, BlockInfo, RemovableMedia, RequestOptions } from '../../block/device.js';
import { MediaEvent, Sense, type SenseCode } from './scsi-spec.js';

export type EjectResult = 'ejected' | 'locked' | 'empty';

export interface BayState {
  readonly locked: boolean;
  readonly trayOpen: boolean;
  readonly vanished: boolean;
  /** The far drive's medium that the guest knows of; '' where it has none. */
  readonly medium: string;
  readonly attention: SenseCode | undefined;
  readonly event: number;
}

export class MediumBay {
  /** The guest has ejected `device`, which is in the bay no more. */
  onGuestEject: (device: BlockDevice) => void = () => undefined;
  /** Something has happened that a guest would like to hear of (asynchronous notification). */
  onEvent: () => void = () => undefined;
  locked = false;
  trayOpen = false;
  #device: BlockDevice | undefined;
  /** The device is still there and says that it has no medium. */
  #vanished = false;
  #attention: SenseCode | undefined;
  #event: number = MediaEvent.none;
  #gone = new AbortController();
  /** The far drive's medium that the guest knows of. */
  #medium = '';
  #unwatch: () => void = () => undefined;
  readonly #fits: (info: BlockInfo) => boolean;

  /**
   * @param device A medium that is in the drive from the start; nothing is reported of it.
   * @param fits Whether a far drive's next medium is one that this drive can read.
   */
  constructor(device: BlockDevice | undefined, fits: (info: BlockInfo) => boolean = () => true) {
    this.#fits = fits;
    if (device) this.#take(device);
  }

  get loaded(): boolean {
    return this.#device !== undefined && !this.#vanished;
  }

  /** The medium, where there is one. */
  get medium(): BlockDevice | undefined {
    return this.#vanished ? undefined : this.#device;
  }

  /** The device whose medium is gone, to be asked again. */
  get vanished(): BlockDevice | undefined {
    return this.#vanished ? this.#device : undefined;
  }

  /** What requests to {@link medium} name as the medium that they are meant for. */
  get mediumName(): string | undefined {
    return this.#device?.media && this.#medium;
  }

  /** Aborts when the medium that is in the drive now leaves it. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Why a command that needs the medium cannot have it. */
  get absence(): SenseCode {
    if (this.#vanished && !this.trayOpen) return Sense.mediumNotPresent;
    return this.trayOpen ? Sense.mediumNotPresentTrayOpen : Sense.mediumNotPresentTrayClosed;
  }

  /** Puts a medium in. @throws RangeError where there is one. */
  insert(device: BlockDevice): void {
    if (this.#device) throw new RangeError('there is a medium in the drive');
    this.#take(device);
    this.trayOpen = false;
    if (!this.#vanished) this.#arrived();
  }

  /**
   * Takes the medium out. A guest that has locked it is only asked to let it go (MMC-5 6.6.5.1, eject request), unless
   * `force`: its requests then end with "medium not present".
   */
  eject(force: boolean): EjectResult {
    if (!this.#device) return 'empty';
    if (this.locked && !force) {
      this.#event = MediaEvent.ejectRequest;
      this.onEvent();
      return 'locked';
    }
    this.#remove();
    this.#tell(MediaEvent.removal);
    return 'ejected';
  }

  /** The guest opens the tray; where the medium is in a far drive, that one has ejected it. */
  guestEject(): void {
    const device = this.#device;
    if (device?.media) {
      this.#vanished = true;
      this.trayOpen = true;
      return this.#interrupt();
    }
    this.#remove();
    if (device) this.onGuestEject(device);
  }

  /** The device said that its medium is gone. */
  vanish(): void {
    if (this.#vanished || !this.#device) return;
    this.#vanished = true;
    this.#interrupt();
    this.#tell(MediaEvent.removal);
  }

  /** Holds the medium or lets it go: a far drive does the same, if it can. */
  async lock(locked: boolean, options: RequestOptions): Promise<void> {
    this.locked = locked;
    // Not every drive has a lock; the guest's own eject is refused by this one.
    await this.#device?.media?.lock(locked, options).catch(() => undefined);
  }

  /** The device has a medium again, maybe another one. */
  returned(): void {
    this.#vanished = false;
    this.#arrived();
  }

  /** The unit attention condition, once. */
  takeAttention(): SenseCode | undefined {
    const attention = this.#attention;
    this.#attention = undefined;
    return attention;
  }

  get attention(): SenseCode | undefined {
    return this.#attention;
  }

  /** A bus reset is told of, unless something else is to be told. It also unlocks (SPC-3 6.13). */
  reset(): void {
    if (this.locked) void this.lock(false, {});
    this.#attention ??= Sense.reset;
  }

  /** The last event of the class media, once. */
  takeEvent(): number {
    const event = this.#event;
    this.#event = MediaEvent.none;
    return event;
  }

  save(): BayState {
    const { locked, trayOpen } = this;
    const medium = this.#medium;
    return { locked, trayOpen, vanished: this.#vanished, medium, attention: this.#attention, event: this.#event };
  }

  restore(state: BayState): void {
    this.locked = state.locked;
    this.trayOpen = state.trayOpen;
    this.#vanished = state.vanished && this.#device !== undefined;
    this.#attention = state.attention;
    this.#event = state.event;
    const { media } = this.#device ?? {};
    if (!media) return;
    this.#medium = state.medium;
    this.#follow(media);
    if (this.locked && this.loaded) void this.lock(true, { medium: media.medium });
  }

  #take(device: BlockDevice): void {
    this.#device = device;
    const { media } = device;
    if (!media) return;
    this.#medium = this.#present(device);
    this.#vanished = this.#medium === '';
    this.#unwatch = media.watch(() => this.#follow(media));
  }

  /** The name of the medium that a far drive has; '' for none, or one that cannot be read here. */
  #present({ media, info }: BlockDevice): string {
    return this.#fits(info) ? media!.medium : '';
  }

  /** The guest is told what the far drive has now. */
  #follow(media: RemovableMedia): void {
    if (this.#device?.media !== media) return;
    const medium = this.#present(this.#device);
    const before = this.#medium;
    this.#medium = medium;
    if (medium === '') return this.vanish();
    if (medium === before && !this.#vanished) return;
    this.#interrupt();
    this.trayOpen = false;
    this.returned();
    // What the guest has prevented holds for this medium as well (SPC-3 6.13).
    if (this.locked) void this.lock(true, { medium });
  }

  /** What is under way on the medium of before is over. */
  #interrupt(): void {
    this.#gone.abort();
    this.#gone = new AbortController();
  }

  #arrived(): void {
    this.#attention = Sense.mediumMayHaveChanged;
    this.#tell(MediaEvent.newMedia);
  }

  #remove(): void {
    this.#unwatch();
    this.#unwatch = () => undefined;
    this.#device = undefined;
    this.#medium = '';
    this.#vanished = false;
    this.trayOpen = true;
    this.#interrupt();
  }

  #tell(event: number): void {
    this.#event = event;
    this.onEvent();
  }
}
