/**
 * PolledDrive: a physical drive with removable media ([SYS] device 914). It polls the drive once a
 * second, and whenever a request fails, because a drive does not announce a change of its medium.
 *
 * The operating system is behind the interface DrivePort (storage/linux-drive.node.ts), which tests
 * replace.
 */
import type { BlockDevice } from './device.js';
import { BlockError, blockErrorOf } from './errors.js';
import { RemovableDrive, type DriveFacts } from './removable-drive.js';

/**
 * The operating system's access to a drive. All calls but `verify` may take long; only one runs at
 * a time.
 */
export interface DrivePort {
  /**
   * Identifies the insertion of the present medium, as far as the system knows; undefined without a
   * readable medium.
   */
  look(): Promise<string | undefined>;
  /** Opens the medium. */
  open(): Promise<BlockDevice>;
  /**
   * True if the medium `name` is still in the drive, as far as the system knows without a delay.
   */
  verify(name: string): boolean;
  /** Ejects the medium, whose device was closed before, unless its requests hang. */
  eject(): Promise<void>;
  lock(locked: boolean): Promise<void>;
  close(): Promise<void>;
}

const pollMs = 1000;
/** Longest time that an eject waits for the medium's requests in flight, in ms. */
const leaveMs = 5000;

export class PolledDrive extends RemovableDrive {
  readonly #port: DrivePort;
  /**
   * The port's name of the present medium, and the number of media so far: a port may give two the
   * same name.
   */
  #name: string | undefined;
  #seen = 0;
  #work: Promise<unknown> = Promise.resolve();
  #looking: Promise<void> | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  /**
   * The name of a medium that could not be opened, so that the poll does not try it again and
   * again.
   */
  #unusable: string | undefined;
  #onUnusable: (why: string) => void;

  /** @param onUnusable receives, once per medium that cannot be opened, the reason */
  private constructor(facts: DriveFacts, port: DrivePort, onUnusable: (why: string) => void) {
    super(facts);
    this.#port = port;
    this.#onUnusable = onUnusable;
  }

  static async open(
    facts: DriveFacts,
    port: DrivePort,
    onUnusable: (why: string) => void = () => undefined,
  ): Promise<PolledDrive> {
    const drive = new PolledDrive(facts, port, onUnusable);
    await drive.look();
    drive.opened();
    drive.#timer = setInterval(() => void drive.look(), pollMs);
    return drive;
  }

  override close(): Promise<void> {
    clearInterval(this.#timer);
    return super.close();
  }

  protected override look(): Promise<void> {
    return (this.#looking ??= this.#inTurn(() => this.#look()).finally(() => (this.#looking = undefined)));
  }

  protected override verify(): void {
    if (this.#name !== undefined && !this.#port.verify(this.#name)) {
      void this.look();
      throw new BlockError('no-medium', 'another medium is in the drive');
    }
  }

  protected doEject(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#name === undefined) throw new BlockError('no-medium', 'the drive has no medium');
      // Close the medium's device first: a drive that is in use does not eject.
      const left = this.take();
      this.#name = undefined;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, leaveMs)));
      await Promise.race([left, late]).finally(() => clearTimeout(timer));
      try {
        await this.#port.eject();
      } finally {
        // If the eject failed, this finds the medium again.
        await this.#look();
      }
    });
  }

  protected doLock(locked: boolean): Promise<void> {
    return this.#inTurn(() => this.#port.lock(locked));
  }

  protected override async doClose(): Promise<void> {
    clearInterval(this.#timer);
    await super.doClose();
    await this.#inTurn(() => this.#port.close());
  }

  async #look(): Promise<void> {
    const name = await this.#port.look().catch(() => undefined);
    if (name === this.#name) return;
    this.#name = undefined;
    void this.take();
    if (name === undefined) return void (this.#unusable = undefined);
    if (name === this.#unusable) return;
    let device: BlockDevice;
    try {
      device = await this.#port.open();
    } catch (error) {
      this.#unusable = name;
      return this.#onUnusable(blockErrorOf(error).message);
    }
    this.#unusable = undefined;
    // The medium may have been exchanged while it was opened.
    const still = await this.#port.look().catch(() => undefined);
    if (still !== name) return void device.close().catch(() => undefined);
    this.#name = name;
    this.put(device, `${name}.${this.#seen++}`);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => undefined);
    return done;
  }
}
