/**
 * RemovableDrive: a block device that stays open while its media come and go. Each medium is a
 * block device of its own while it is inserted. A request reaches only the medium that it is meant
 * for. A request in flight when its medium leaves fails with kind `no-medium`.
 *
 * Not here: how media are inserted and ejected (the subclasses PolledDrive and ExchangeableDrive).
 */
import type { Buffers } from '../base/buffers.js';
import { JoinedAbort } from '../base/abort.js';
import { BlockBase, checkMedium } from './base.js';
import type {
  BlockDevice,
  BlockInfo,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from './device.js';
import { BlockError, blockErrorOf } from './errors.js';

/** Facts about a drive that do not depend on its medium. */
export interface DriveFacts {
  readonly identity: string;
  readonly readOnly: boolean;
  readonly rotational: boolean;
  /** Block size of the empty drive in bytes: the usual one of its media. */
  readonly blockSize: number;
}

interface Inside {
  readonly device: BlockDevice;
  readonly id: string;
  /** Aborts when the medium leaves. */
  readonly gone: AbortController;
}

export abstract class RemovableDrive extends BlockBase {
  readonly #facts: DriveFacts;
  readonly #watchers = new Set<() => void>();
  readonly #media: RemovableMedia;
  #inside: Inside | undefined;
  #info: BlockInfo;
  #first: string | undefined;

  constructor(facts: DriveFacts) {
    super();
    this.#facts = facts;
    this.#info = emptyInfo(facts);
    this.#media = this.#offer();
  }

  get info(): BlockInfo {
    const { route, away } = this.#inside?.device.info ?? this.#info;
    if (route !== this.#info.route || away !== this.#info.away) this.#info = { ...this.#info, route, away };
    return this.#info;
  }

  override get media(): RemovableMedia {
    return this.#media;
  }

  /** Ejects the present medium and calls {@link take}. Rejects with a BlockError. */
  protected abstract doEject(): Promise<void>;
  /** Locks or unlocks the present medium. Rejects with a BlockError. */
  protected abstract doLock(locked: boolean): Promise<void>;
  /**
   * Called after a failed request: checks whether the medium is still in the drive. Must not
   * reject.
   */
  protected look(): Promise<void> {
    return Promise.resolve();
  }
  /**
   * Called right before each request.
   * @throws BlockError if the drive knows that `device` has left it
   */
  protected verify(_device: BlockDevice): void {}

  /**
   * Call once, when the drive is open: requests that name no medium are meant for the one that is
   * in the drive now.
   */
  protected opened(): void {
    this.#first ??= this.#inside?.id ?? '';
  }

  /** The present medium; undefined if the drive is empty. */
  protected get inside(): BlockDevice | undefined {
    return this.#inside?.device;
  }

  /**
   * Call when a medium has been inserted. The drive closes `device` when it leaves.
   * @param id becomes {@link RemovableMedia.medium}
   */
  protected put(device: BlockDevice, id: string): void {
    void this.#leave();
    this.#inside = { device, id, gone: new AbortController() };
    const { identity, readOnly, rotational } = this.#facts;
    const { info } = device;
    // Several connections may notice a change of the medium at different times.
    const can = { ...info.can, multiConnection: false };
    this.#info = { ...info, identity, readOnly: readOnly || info.readOnly, rotational, removable: true, can };
    this.#tell();
  }

  /**
   * Call when the medium has left the drive. Resolves when it is closed, after its requests in
   * flight have settled.
   */
  protected async take(): Promise<void> {
    const left = this.#leave();
    if (!left) return;
    this.#info = emptyInfo(this.#facts);
    this.#tell();
    await left;
  }

  protected doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    return this.#onMedium(options, (device, own) => device.read(offset, into, own));
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.#onMedium(options, (device, own) => device.write(offset, from, { ...options, ...own }));
  }

  protected doFlush(options: RequestOptions): Promise<void> {
    return this.#onMedium(options, (device, own) => device.flush(own));
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.#onMedium(options, (device, own) => device.trim(offset, length, { ...options, ...own }));
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    return this.#onMedium(options, (device, own) => device.writeZeroes(offset, length, { ...options, ...own }));
  }

  protected override doExtents(offset: number, length: number, options: RequestOptions): Promise<readonly Extent[]> {
    return this.#onMedium(options, (device, own) => device.extents(offset, length, own));
  }

  protected async doClose(): Promise<void> {
    this.#watchers.clear();
    await this.#leave();
  }

  /** Runs a request on the medium that it is meant for; aborts it when the medium leaves. */
  async #onMedium<T>(
    options: RequestOptions,
    run: (device: BlockDevice, own: Pick<RequestOptions, 'signal' | 'traceId'>) => Promise<T>,
  ): Promise<T> {
    checkMedium(this.media, options);
    const { device, gone } = this.#inside!;
    const joined = new JoinedAbort(options.signal, gone.signal);
    const { traceId } = options;
    try {
      this.verify(device);
      return await run(device, { signal: joined.signal, ...(traceId !== undefined && { traceId }) });
    } catch (error) {
      if (!options.signal?.aborted && !gone.signal.aborted && lookable.has(blockErrorOf(error).kind)) await this.look();
      if (gone.signal.aborted) throw new BlockError('no-medium', 'the medium has left the drive', { cause: error });
      throw error;
    } finally {
      joined.end();
    }
  }

  #leave(): Promise<void> | undefined {
    const left = this.#inside;
    if (!left) return undefined;
    this.#inside = undefined;
    left.gone.abort(new BlockError('aborted', 'the medium has left the drive'));
    // Ignore errors: the medium is gone already.
    return left.device.close().catch(() => undefined);
  }

  #tell(): void {
    for (const one of [...this.#watchers]) one();
  }

  #offer(): RemovableMedia {
    const current = (): string => this.#inside?.id ?? '';
    const first = (): string => this.#first ?? current();
    return {
      get medium() {
        return current();
      },
      get first() {
        return first();
      },
      watch: (listener) => {
        const own = (): void => listener();
        this.#watchers.add(own);
        return () => void this.#watchers.delete(own);
      },
      eject: async (options = {}) => {
        checkMedium(this.media, options);
        await this.doEject();
      },
      lock: (locked) => this.doLock(locked),
    };
  }
}

/** Kinds of error that a medium may give because it has left the drive. */
const lookable: ReadonlySet<string> = new Set(['io', 'no-medium', 'range', 'closed', 'read-only']);

function emptyInfo({ identity, readOnly, rotational, blockSize }: DriveFacts): BlockInfo {
  return {
    size: 0,
    blockSize,
    preferredSize: Math.max(4096, blockSize),
    maxTransfer: 1 << 20,
    readOnly,
    removable: true,
    rotational,
    identity,
    can: { flush: true, fua: false, trim: false, writeZeroes: false, extents: false, multiConnection: false },
  };
}
