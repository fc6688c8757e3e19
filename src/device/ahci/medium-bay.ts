/**
 * Where a removable drive has its medium: loaded, locked, ejected, vanished, and what the guest is still to be told of it
 * (SPC-3 5.14 unit attention, MMC-5 4.1.6 and 6.6 events).
 */
import type { BlockDevice } from '../../block/device.js';
import { MediaEvent, Sense, type SenseCode } from './scsi-spec.js';

export type EjectResult = 'ejected' | 'locked' | 'empty';

export interface BayState {
  readonly locked: boolean;
  readonly trayOpen: boolean;
  readonly vanished: boolean;
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

  /** @param device A medium that is in the drive from the start; nothing is reported of it. */
  constructor(device: BlockDevice | undefined) {
    this.#device = device;
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

  /** Aborts when the medium that is in the drive now leaves it. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Why a command that needs the medium cannot have it. */
  get absence(): SenseCode {
    if (this.#vanished) return Sense.mediumNotPresent;
    return this.trayOpen ? Sense.mediumNotPresentTrayOpen : Sense.mediumNotPresentTrayClosed;
  }

  /** Puts a medium in. @throws RangeError where there is one. */
  insert(device: BlockDevice): void {
    if (this.#device) throw new RangeError('there is a medium in the drive');
    this.#device = device;
    this.trayOpen = false;
    this.#arrived();
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

  /** The guest opens the tray. */
  guestEject(): void {
    const device = this.#device;
    this.#remove();
    if (device) this.onGuestEject(device);
  }

  /** The device said that its medium is gone. */
  vanish(): void {
    if (this.#vanished || !this.#device) return;
    this.#vanished = true;
    this.#tell(MediaEvent.removal);
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
    this.locked = false;
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
    return { locked, trayOpen, vanished: this.#vanished, attention: this.#attention, event: this.#event };
  }

  restore(state: BayState): void {
    this.locked = state.locked;
    this.trayOpen = state.trayOpen;
    this.#vanished = state.vanished && this.#device !== undefined;
    this.#attention = state.attention;
    this.#event = state.event;
  }

  #arrived(): void {
    this.#attention = Sense.mediumMayHaveChanged;
    this.#tell(MediaEvent.newMedia);
  }

  #remove(): void {
    this.#device = undefined;
    this.#vanished = false;
    this.trayOpen = true;
    this.#gone.abort();
    this.#gone = new AbortController();
  }

  #tell(event: number): void {
    this.#event = event;
    this.onEvent();
  }
}
