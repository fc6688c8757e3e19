/**
 * A physical removable drive ([SYS] device 914): it is looked into once a second, and whenever a request fails, since a drive
 * tells nothing by itself. What it is asked by is its port, which a test replaces.
 */
import type { BlockDevice } from './device.js';
import { BlockError, blockErrorOf } from './errors.js';
import { RemovableDrive, type DriveFacts } from './removable-drive.js';

/** A drive as its system lets one use it. All but `verify` may take long, and are called one after the other. */
export interface DrivePort {
  /** What names the stay of the medium that is in it, as far as the system tells; undefined: there is none that can be read. */
  look(): Promise<string | undefined>;
  /** Opens the medium. */
  open(): Promise<BlockDevice>;
  /** Whether the system still has the medium of `name` in the drive, as far as can be told at once. */
  verify(name: string): boolean;
  /** Ejects; the medium's device is closed. */
  eject(): Promise<void>;
  lock(locked: boolean): Promise<void>;
  close(): Promise<void>;
}

const pollMs = 1000;
/** How long an eject waits for requests that the medium has under way, in ms. */
const leaveMs = 5000;

export class PolledDrive extends RemovableDrive {
  readonly #port: DrivePort;
  /** The port's name of the medium that is in, and how many have been seen: a drive may give two the same name. */
  #name: string | undefined;
  #seen = 0;
  #work: Promise<unknown> = Promise.resolve();
  #looking: Promise<void> | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** Why the medium that is there cannot be used; it is not opened again and again. */
  #unusable: string | undefined;
  #onUnusable: (why: string) => void;

  /** @param onUnusable Told once of each medium that is in the drive and cannot be opened. */
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
      // A drive that is in use does not eject.
      const left = this.take();
      this.#name = undefined;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, leaveMs)));
      await Promise.race([left, late]).finally(() => clearTimeout(timer));
      try {
        await this.#port.eject();
      } finally {
        // Where it is still there, it is seen again.
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
    // It may have been exchanged while it was opened.
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
