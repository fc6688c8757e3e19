/** An image of a Ceph cluster as a block device (image.node.ts). */
import type { Buffers } from '../../base/buffers.js';
import { silent, type Logger } from '../../base/log.js';
import { BlockBase } from '../../block/base.js';
import type { BlockInfo, Extent, RequestOptions, ZeroOptions } from '../../block/device.js';
import { RBD_WRITE_ZEROES_FLAG_THICK_PROVISION } from '../../linux/ceph.node.js';
import { RbdImage } from './image.node.js';
import { parseRbdLocation } from './location.js';

export interface OpenRbdOptions {
  readonly readOnly?: boolean;
  /** The caller writes nothing: do not take the exclusive lock from another client. */
  readonly looksOnly?: boolean;
  /** How long a request waits for the cluster, in seconds. */
  readonly reconnectSeconds?: number;
  readonly log?: Logger;
}

/** @throws FarbusError if the image cannot be opened */
export async function openRbd(text: string, options: OpenRbdOptions = {}): Promise<RbdDisk> {
  const location = parseRbdLocation(text);
  const readOnly = options.readOnly === true || location.snapshot !== undefined;
  const image = await RbdImage.open(location, {
    writes: !readOnly,
    locks: !readOnly && options.looksOnly !== true,
    timeoutSeconds: options.reconnectSeconds ?? 60,
    log: options.log ?? silent,
  });
  // Images of format 1 have no id.
  const id = image.id || `=${location.image}`;
  return new RbdDisk(image, `${location.pool}/${location.namespace}/${id}@${location.snapshot ?? ''}`, readOnly);
}

export class RbdDisk extends BlockBase {
  #info: BlockInfo;
  readonly #image: RbdImage;

  constructor(image: RbdImage, name: string, readOnly: boolean) {
    super();
    this.#image = image;
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
      await inOrder(places, offset, (at, bytes) => this.#image.write(at, bytes));
      return;
    }
    const bytes = new Uint8Array(from.length);
    from.copyTo(bytes, 0);
    await this.#image.write(offset, bytes);
  }

  protected async doFlush(_options: RequestOptions): Promise<void> {
    await this.#image.flush();
  }

  protected override async doTrim(offset: number, length: number): Promise<void> {
    await this.#image.discard(offset, length);
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    await this.#image.writeZeroes(offset, length, options.noHole ? RBD_WRITE_ZEROES_FLAG_THICK_PROVISION : 0);
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

  async refresh(): Promise<void> {
    const size = await this.#image.currentSize();
    if (size > this.#info.size) this.#info = { ...this.#info, size };
  }

  protected async doClose(): Promise<void> {
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
