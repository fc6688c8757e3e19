/**
 * The bay of a removable drive: whether its medium is loaded, locked, ejected or lost, and the
 * events that the guest has not heard of yet (SPC-3 5.14 unit attention; MMC-5 4.1.6 and 6.6 media
 * events).
 *
 * The inserted device may itself be a remote drive whose medium comes and goes (BlockDevice.media).
 * The bay then shows the medium of that drive.
 */
import type { BlockDevice, BlockInfo, RemovableMedia, RequestOptions } from '../../block/device.js';
import { MediaEvent, Sense, type SenseCode } from '../../spec/scsi.js';
import { checkLike } from '../saved-state.js';

export type EjectResult = 'ejected' | 'locked' | 'empty';

export interface BayState {
  readonly locked: boolean;
  readonly trayOpen: boolean;
  readonly vanished: boolean;
  /** Name of the remote drive's medium that the guest knows of; '' if it knows of none. */
  readonly medium: string;
  readonly attention: SenseCode | undefined;
  readonly event: number;
}

export class MediumBay {
  /** Called with the device that the guest has ejected. It is no longer in the bay. */
  onGuestEject: (device: BlockDevice) => void = () => undefined;
  /**
   * Called when an event occurs that a guest may want to be notified of (asynchronous
   * notification).
   */
  onEvent: () => void = () => undefined;
  locked = false;
  trayOpen = false;
  #device: BlockDevice | undefined;
  /** The device is still in the bay but has reported that it has no medium. */
  #vanished = false;
  #attention: SenseCode | undefined;
  #event: number = MediaEvent.none;
  #gone = new AbortController();
  /** Name of the remote drive's medium that the guest knows of; '' if none. */
  #medium = '';
  #unwatch: () => void = () => undefined;
  readonly #fits: (info: BlockInfo) => boolean;

  /**
   * @param device The medium that is in the drive from the start. No event is reported for it.
   * @param fits Tells if this drive can read a remote drive's next medium.
   */
  constructor(device: BlockDevice | undefined, fits: (info: BlockInfo) => boolean = () => true) {
    this.#fits = fits;
    if (device) this.#take(device);
  }

  get loaded(): boolean {
    return this.#device !== undefined && !this.#vanished;
  }

  /** The medium; undefined if there is none. */
  get medium(): BlockDevice | undefined {
    return this.#vanished ? undefined : this.#device;
  }

  /**
   * The device that reported that its medium is gone; it can be asked again whether a medium is
   * back.
   */
  get vanished(): BlockDevice | undefined {
    return this.#vanished ? this.#device : undefined;
  }

  /**
   * The medium name that requests to {@link medium} must carry; undefined if the device is not a
   * remote drive.
   */
  get mediumName(): string | undefined {
    return this.#device?.media && this.#medium;
  }

  /** Aborts when the present medium leaves the drive. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** The sense code for a command that needs a medium while there is none. */
  get absence(): SenseCode {
    if (this.#vanished && !this.trayOpen) return Sense.mediumNotPresent;
    return this.trayOpen ? Sense.mediumNotPresentTrayOpen : Sense.mediumNotPresentTrayClosed;
  }

  /**
   * Inserts a medium.
   * @throws RangeError if there is one already
   */
  insert(device: BlockDevice): void {
    if (this.#device) throw new RangeError('there is a medium in the drive');
    this.#take(device);
    this.trayOpen = false;
    if (!this.#vanished) this.#arrived();
  }

  /**
   * Ejects the medium. If the guest has locked it, the guest is only asked to eject it (MMC-5
   * 6.6.5.1, eject request). With `force` it is ejected anyway, and the guest's requests end with
   * "medium not present".
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

  /**
   * The guest opens the tray. If the device is a remote drive, that drive has ejected its medium
   * already.
   */
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

  /** The device has reported that its medium is gone. */
  vanish(): void {
    if (this.#vanished || !this.#device) return;
    this.#vanished = true;
    this.#interrupt();
    this.#tell(MediaEvent.removal);
  }

  /** Locks or unlocks the medium. A remote drive does the same if it can. */
  async lock(locked: boolean, options: RequestOptions): Promise<void> {
    this.locked = locked;
    // Ignore the failure: not every drive has a lock, and this drive refuses the guest's own eject
    // anyway.
    await this.#device?.media?.lock(locked, options).catch(() => undefined);
  }

  /** The device has a medium again, possibly another one. */
  returned(): void {
    this.#vanished = false;
    this.#arrived();
  }

  /** Returns the pending unit attention condition and clears it. */
  takeAttention(): SenseCode | undefined {
    const attention = this.#attention;
    this.#attention = undefined;
    return attention;
  }

  get attention(): SenseCode | undefined {
    return this.#attention;
  }

  /**
   * A bus reset: unlocks (SPC-3 6.13), and reports the reset unless another unit attention is
   * pending.
   */
  reset(): void {
    if (this.locked) void this.lock(false, {});
    this.#attention ??= Sense.reset;
  }

  /** Returns the last event of the class media and clears it. */
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

  /** @throws StateFault if it cannot have been saved */
  restore(state: BayState): void {
    if (state.attention !== undefined) checkLike([0, 0, 0], state.attention);
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

  /** Name of the medium in a remote drive; '' if there is none, or if this drive cannot read it. */
  #present({ media, info }: BlockDevice): string {
    return this.#fits(info) ? media!.medium : '';
  }

  /** Reports a change of the remote drive's medium to the guest. */
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
    // PREVENT MEDIUM REMOVAL stays in force for the new medium (SPC-3 6.13).
    if (this.locked) void this.lock(true, { medium });
  }

  /** Aborts the requests in flight on the medium that has left. */
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
