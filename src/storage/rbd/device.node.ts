/** An image of a Ceph cluster as a block device (image.node.ts). */
import type { Buffers } from '../../base/buffers.js';
import { usageError } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import { BlockBase } from '../../block/base.js';
import type { BlockInfo, Extent, RequestOptions, ZeroOptions } from '../../block/device.js';
import { BlockError } from '../../block/errors.js';
import type { LockHolder, WriterLock } from '../../block/writer-lock.js';
import { RBD_WRITE_ZEROES_FLAG_THICK_PROVISION } from '../../linux/ceph.node.js';
import { RbdImage } from './image.node.js';
import { parseRbdLocation, type RbdLocation } from './location.js';
import { RbdTakeOver } from './take-over.node.js';

export interface OpenRbdOptions {
  readonly readOnly?: boolean;
  /** The caller writes nothing: do not take the exclusive lock from another client. */
  readonly looksOnly?: boolean;
  /** The caller admits clients by {@link BlockDevice.writerLock}, as standby=1 demands. */
  readonly admits?: boolean;
  /** How long a request waits for the cluster, in seconds. */
  readonly reconnectSeconds?: number;
  readonly log?: Logger;
}

/** @throws FarbusError if the image cannot be opened */
export async function openRbd(text: string, options: OpenRbdOptions = {}): Promise<RbdDisk> {
  const location = parseRbdLocation(text);
  const readOnly = options.readOnly === true || location.snapshot !== undefined;
  const common = { timeoutSeconds: options.reconnectSeconds ?? 60, log: options.log ?? silent };
  if (location.standby && !readOnly && options.looksOnly !== true) {
    if (!options.admits) throw usageError(`${location.shown}: standby=1 is for an export of farbus serve`);
    const takeOver = await RbdTakeOver.open(location, { ...common, writes: true, locks: false });
    return new RbdDisk(takeOver, location, false);
  }
  const image = await RbdImage.open(location, {
    ...common,
    writes: !readOnly,
    locks: !readOnly && options.looksOnly !== true,
  });
  return new RbdDisk({ image, has: true }, location, readOnly);
}

/** How often the image's length is looked at, in ms. librbd knows it without asking the cluster. */
const lookMs = 1000;

/** The image in use, and whether it may be changed. */
interface Access {
  readonly image: RbdImage;
  readonly has: boolean;
}

export class RbdDisk extends BlockBase {
  readonly #lock: WriterLock;
  #info: BlockInfo;
  readonly #access: Access;
  readonly #shown: string;
  readonly #watching = new Set<() => void>();
  readonly #timer: ReturnType<typeof setInterval>;
  #looking: Promise<void> | undefined;
  #asking: Promise<LockHolder | undefined> | undefined;

  constructor(access: Access, { pool, namespace, image: imageName, snapshot, shown }: RbdLocation, readOnly: boolean) {
    super();
    const { image } = access;
    // Images of format 1 have no id.
    const name = `${pool}/${namespace}/${image.id || `=${imageName}`}@${snapshot ?? ''}`;
    this.#access = access;
    this.#shown = shown;
    const takeOver = access instanceof RbdTakeOver ? access : undefined;
    this.#lock = { holder: () => this.#holder(), takeOver };
    this.#timer = setInterval(() => void this.refresh().catch(() => undefined), lookMs).unref();
    this.#info = {
      size: image.size,
      blockSize: 1,
      preferredSize: Math.max(4096, Math.min(image.stripeUnit, 65536)),
      maxTransfer: 32 << 20,
      readOnly,
      removable: false,
      rotational: false,
      identity: `rbd:${name}`,
      marks: image.id === '' ? {} : { layer: `rbd:${name}` },
      can: { flush: true, fua: false, trim: true, writeZeroes: true, extents: true, multiConnection: true },
    };
  }

  override get writerLock(): WriterLock {
    return this.#lock;
  }

  /** The image, to be changed. @throws BlockError if another client may change it at present */
  get #mine(): RbdImage {
    const { image, has } = this.#access;
    if (!has) throw image.ended ?? new BlockError('closed', `${this.#shown}: it has not been taken over`);
    return image;
  }

  get #image(): RbdImage {
    return this.#access.image;
  }

  get info(): BlockInfo {
    return this.#info;
  }

  protected async doRead(offset: number, into: Buffers): Promise<void> {
    const places = into.stable();
    if (places) {
      await inOrder(places, offset, (at, bytes) => this.#image.read(at, bytes));
      return;
    }
    const bytes = new Uint8Array(into.length);
    await this.#image.read(offset, bytes);
    into.copyFrom(bytes, 0);
  }

  protected async doWrite(offset: number, from: Buffers): Promise<void> {
    const places = from.stable();
    if (places) {
      await inOrder(places, offset, (at, bytes) => this.#mine.write(at, bytes));
      return;
    }
    const bytes = new Uint8Array(from.length);
    from.copyTo(bytes, 0);
    await this.#mine.write(offset, bytes);
  }

  protected async doFlush(_options: RequestOptions): Promise<void> {
    // Without the lock nothing was written here, and other gateways keep nothing in memory.
    if (!this.#access.has && !this.#image.ended) return;
    await this.#mine.flush();
  }

  protected override async doTrim(offset: number, length: number): Promise<void> {
    await this.#mine.discard(offset, length);
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    await this.#mine.writeZeroes(offset, length, options.noHole ? RBD_WRITE_ZEROES_FLAG_THICK_PROVISION : 0);
  }

  protected override async doExtents(offset: number, length: number): Promise<readonly Extent[]> {
    const extents: Extent[] = [];
    const add = (from: number, to: number, hole: boolean): void => {
      if (to > from) extents.push({ offset: from, length: to - from, hole, zero: hole });
    };
    let at = offset;
    for (const { offset: start, length: count } of await this.#image.allocated(offset, length)) {
      const [from, to] = [Math.max(at, start), Math.min(offset + length, start + count)];
      add(at, from, true);
      add(from, to, false);
      at = Math.max(at, to);
    }
    add(at, offset + length, true);
    return extents;
  }

  /** One question at a time, for the same reason as {@link refresh}. */
  #holder(): Promise<LockHolder | undefined> {
    return (this.#asking ??= this.#image.holder().finally(() => (this.#asking = undefined)));
  }

  /** One look at a time: a silent cluster must not occupy one thread after the other. */
  refresh(): Promise<void> {
    const look = async (): Promise<void> => {
      try {
        const size = await this.#image.currentSize();
        if (size <= this.#info.size) return;
        this.#info = { ...this.#info, size };
        for (const listener of this.#watching) listener();
      } finally {
        this.#looking = undefined;
      }
    };
    return (this.#looking ??= look());
  }

  override get watchSize(): (listener: () => void) => () => void {
    return (listener) => {
      this.#watching.add(listener);
      return () => this.#watching.delete(listener);
    };
  }

  protected async doClose(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking?.catch(() => undefined);
    await this.#image.close();
  }
}

/** Transfers each place at its offset; settles when all have. */
async function inOrder(
  places: readonly Uint8Array[],
  offset: number,
  transfer: (at: number, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  let at = offset;
  const results = await Promise.allSettled(
    places.map((bytes) => {
      const begin = at;
      at += bytes.length;
      return transfer(begin, bytes);
    }),
  );
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
