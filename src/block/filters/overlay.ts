/**
 * Overlay: copy-on-write. What is written goes to a store, what was not is read from the base, and the base is never
 * written. The store is any block device that is large enough; its format and what it guarantees after a crash are in
 * docs/overlay.md.
 *
 * The order that makes it safe: a cluster's bytes are on the store before the map says that they are there. So a flush
 * is: make the data durable, write the changed pages of the map as they were before that, make those durable.
 */
import { buffersOf, type Buffers } from '../../base/buffers.js';
import { FarbusError } from '../../base/errors.js';
import { BlockBase } from '../base.js';
import type { BlockDevice, BlockInfo, Extent, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import { blockErrorOf, BlockError, isLocal } from '../errors.js';
import { mapPageSize, sectorSize, type OverlayHeader, type OverlayLayout } from './overlay-format.js';
import { ClusterMap, inBase, inPart, inStore, isZero, type ClusterState, type MapPage } from './overlay-map.js';
import type { SectorTable } from './overlay-sectors.js';
import { inParallel } from './parallel.js';
import { RangeLock } from './range-lock.js';

/** Most extents that one request answers. */
const maxExtents = 256;

export class OverlayFilter extends BlockBase {
  readonly info: BlockInfo;
  readonly #base: BlockDevice;
  readonly #store: BlockDevice;
  readonly #layout: OverlayLayout;
  readonly #map: ClusterMap;
  /** Undefined in overlays of Farbus 0.1.0: a cluster is then in the store as a whole or not at all. */
  readonly #sectors: SectorTable | undefined;
  /** On cluster numbers: two changes of one cluster must not both copy it. */
  readonly #lock = new RangeLock();
  #lastFlush: Promise<void> = Promise.resolve();
  #nextFlush: Promise<void> | undefined;

  /** Takes over both devices: close closes them. Made by createOverlay and openOverlay (overlay-store.ts). */
  constructor(
    base: BlockDevice,
    store: BlockDevice,
    header: OverlayHeader,
    map: ClusterMap,
    sectors: SectorTable | undefined,
  ) {
    super();
    this.#base = base;
    this.#store = store;
    this.#layout = header.layout;
    this.#map = map;
    this.#sectors = sectors;
    const { clusterSize } = header.layout;
    const blockSize = Math.max(base.info.blockSize, store.info.blockSize);
    if (blockSize > clusterSize || header.layout.baseSize % blockSize !== 0) {
      throw new FarbusError(`blocks of ${blockSize} bytes do not fit an overlay of this disk: use another store`);
    }
    this.info = {
      size: header.layout.baseSize,
      tail: base.info.tail,
      blockSize,
      preferredSize: Math.max(base.info.preferredSize, clusterSize),
      maxTransfer: 1 << 25,
      readOnly: store.info.readOnly,
      removable: base.info.removable,
      rotational: base.info.rotational,
      identity: `overlay:${header.id}`,
      marks: { layer: `overlay:${header.id}` },
      can: {
        flush: store.info.can.flush,
        fua: false,
        trim: true,
        writeZeroes: true,
        extents: true,
        multiConnection: store.info.can.multiConnection,
      },
    };
  }

  protected async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const jobs: (() => Promise<void>)[] = [];
    for (const { at, end, state } of this.#runs(offset, offset + into.length)) {
      const part = into.slice(at - offset, end - offset);
      if (state === isZero) part.zero(0, part.length);
      else if (state === inBase) jobs.push(() => this.#base.read(at, part, options));
      else jobs.push(() => this.#store.read(this.#place(at), part, options));
    }
    await inParallel(jobs);
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.#locked(offset, from.length, options, () => this.#write(offset, from, options));
  }

  protected doFlush(): Promise<void> {
    // One round at a time: who comes while one is under way shares the next, which begins after this call.
    this.#nextFlush ??= this.#lastFlush
      .catch(() => undefined)
      .then(() => {
        this.#lastFlush = this.#nextFlush!;
        this.#nextFlush = undefined;
        return this.#persist();
      });
    return this.#nextFlush;
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.#locked(offset, length, options, async () => {
      // Parts of clusters stay as they are: a trim need not do anything.
      const { from, to } = this.#wholeClusters(offset, offset + length);
      if (from < to) await this.#clear(from, to, options);
    });
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    // To stay allocated the clusters must be written.
    if (options.noHole) return Promise.reject(new BlockError('unsupported', 'an overlay zeroes by leaving out'));
    return this.#locked(offset, length, options, async () => {
      const { from, to } = this.#wholeClusters(offset, offset + length);
      if (from >= to) return this.#writeZero(offset, offset + length, options);
      await this.#writeZero(offset, from, options);
      await this.#clear(from, to, options);
      await this.#writeZero(to, offset + length, options);
    });
  }

  protected override async doExtents(offset: number, length: number, options: RequestOptions): Promise<Extent[]> {
    const list: Extent[] = [];
    const add = (extent: Extent): void => {
      const last = list.at(-1);
      if (last && last.hole === extent.hole && last.zero === extent.zero) {
        list[list.length - 1] = { ...last, length: last.length + extent.length };
      } else {
        list.push(extent);
      }
    };
    for (let at = offset; at < offset + length && list.length < maxExtents;) {
      const { end, state } = this.#run(at, offset + length);
      if (state === isZero) {
        add({ offset: at, length: end - at, hole: true, zero: true });
        at = end;
        continue;
      }
      const shift = state === inStore ? this.#place(0) : 0;
      const device = state === inStore ? this.#store : this.#base;
      for (const part of this.#wholeBlocks(await device.extents(at + shift, end - at, options))) {
        add({ ...part, offset: at });
        at += part.length;
      }
    }
    return list;
  }

  protected async doClose(): Promise<void> {
    try {
      if (!this.info.readOnly) await this.doFlush();
    } catch (error) {
      const { kind, message } = blockErrorOf(error);
      const why = kind === 'no-space' ? 'its disk is full' : message;
      const what = 'what was written since the last flush is lost';
      throw new BlockError(kind, `the overlay cannot be written when it is closed: ${why}; ${what}`, { cause: error });
    } finally {
      await inParallel([() => this.#store.close(), () => this.#base.close()]);
    }
  }

  /** Writes what the caller has locked. */
  async #write(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const { clusterSize } = this.#layout;
    const end = offset + from.length;
    // Clusters of which only a part is written and whose rest is not in the store yet, at the start and at the end.
    const partial = new Set<number>();
    for (const at of [offset, end - 1]) {
      const cluster = Math.floor(at / clusterSize);
      const whole = cluster * clusterSize >= offset && this.#endOf(cluster) <= end;
      if (!whole && this.#map.get(cluster) !== inStore) partial.add(cluster);
    }
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((end - 1) / clusterSize);
    const directFrom = partial.has(first) ? Math.min(end, this.#endOf(first)) : offset;
    const directTo = partial.has(last) ? Math.max(offset, last * clusterSize) : end;
    const jobs = [...partial].map((cluster) => () => this.#copyUp(cluster, offset, from, options));
    if (directFrom < directTo) {
      jobs.push(async () => {
        const part = from.slice(directFrom - offset, directTo - offset);
        await this.#store.write(this.#place(directFrom), part, options);
        this.#map.set(Math.floor(directFrom / clusterSize), Math.ceil(directTo / clusterSize), inStore);
      });
    }
    await inParallel(jobs);
  }

  /**
   * Writes what `from` (whose first byte is at `offset`) has of a cluster, and all the rest of it as it reads now. Where
   * the base cannot read the rest, only the sectors that are written to go to the store: a bad sector of the base stays
   * one bad sector.
   */
  async #copyUp(cluster: number, offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const start = cluster * this.#layout.clusterSize;
    const end = this.#endOf(cluster);
    const state = this.#map.get(cluster);
    if (state !== inPart) {
      try {
        await this.#putUp(start, end, offset, from, options);
        this.#map.set(cluster, cluster + 1, inStore);
        return;
      } catch (error) {
        if (state !== inBase || !this.#sectors || !(error instanceof BaseFailure)) throw error;
      }
    }
    const first = Math.floor((Math.max(start, offset) - start) / sectorSize);
    const last = Math.ceil((Math.min(end, offset + from.length) - start) / sectorSize);
    await this.#putUp(start + first * sectorSize, Math.min(end, start + last * sectorSize), offset, from, options);
    const whole = this.#sectors!.add(cluster, first, last, Math.ceil((end - start) / sectorSize));
    this.#map.set(cluster, cluster + 1, whole ? inStore : inPart);
  }

  /** Writes [start, end) to the store: as it reads now, with what `from` has of it on top. */
  async #putUp(start: number, end: number, offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const bytes = new Uint8Array(end - start);
    const [first, last] = [Math.max(start, offset), Math.min(end, offset + from.length)];
    if (first > start || last < end) {
      try {
        await this.doRead(start, buffersOf(bytes), forRead(options));
      } catch (error) {
        throw isLocal(error) ? new BaseFailure(error) : error;
      }
    }
    from.slice(first - offset, last - offset).copyTo(bytes.subarray(first - start, last - start), 0);
    await this.#store.write(this.#place(start), buffersOf(bytes), options);
  }

  /** Makes whole clusters [from, to) (bytes, the end of the device counting as whole) read as zeroes. */
  async #clear(from: number, to: number, options: WriteOptions): Promise<void> {
    const jobs: (() => Promise<void>)[] = [];
    for (const { at, end, state } of this.#runs(from, to)) {
      if (state === inStore) jobs.push(() => this.#giveBack(at, end, options));
    }
    await inParallel(jobs);
    const { clusterSize } = this.#layout;
    this.#map.set(from / clusterSize, Math.ceil(to / clusterSize), isZero);
  }

  /**
   * Gives the store's space for [at, end) back where that is quick. Zeroes and not trimmed: until the map is durable the
   * old one counts after a crash, and it must find the old bytes or zeroes there.
   */
  async #giveBack(at: number, end: number, options: WriteOptions): Promise<void> {
    try {
      await this.#store.writeZeroes(this.#place(at), end - at, { ...forRead(options), fastOnly: true });
    } catch (error) {
      if (blockErrorOf(error).kind !== 'unsupported') throw error;
    }
  }

  /** Writes zeroes to a part of a cluster. */
  async #writeZero(from: number, to: number, options: WriteOptions): Promise<void> {
    for (const { at, end, state } of this.#runs(from, to)) {
      if (state !== isZero) await this.#write(at, buffersOf(new Uint8Array(end - at)), options);
    }
  }

  async #persist(): Promise<void> {
    const pages = this.#map.takeChanged();
    const tables = this.#sectors?.takeChanged() ?? [];
    try {
      const { mapOffset, tableOffset } = this.#layout;
      await this.#store.flush();
      // The sector table before the map: a cluster that the map calls partial has a table.
      await this.#putPages(tableOffset, tables);
      await this.#putPages(mapOffset, pages);
    } catch (error) {
      this.#map.returnChanged(pages);
      this.#sectors?.returnChanged(tables);
      throw error;
    }
  }

  async #putPages(at: number, pages: readonly MapPage[]): Promise<void> {
    if (pages.length === 0) return;
    await inParallel(
      pages.map(
        ({ index, bytes }) =>
          () =>
            this.#store.write(at + index * mapPageSize, buffersOf(bytes)),
      ),
    );
    await this.#store.flush();
  }

  async #locked(offset: number, length: number, options: RequestOptions, act: () => Promise<void>): Promise<void> {
    const { clusterSize } = this.#layout;
    const release = await this.#lock.acquire(
      Math.floor(offset / clusterSize),
      Math.ceil((offset + length) / clusterSize),
    );
    try {
      options.signal?.throwIfAborted();
      await act();
    } finally {
      release();
    }
  }

  /** The part of [start, end) that is whole clusters. The device's last one is whole where it reaches its end. */
  #wholeClusters(start: number, end: number): { from: number; to: number } {
    const { clusterSize, baseSize } = this.#layout;
    const from = Math.ceil(start / clusterSize) * clusterSize;
    return { from, to: end === baseSize ? end : Math.floor(end / clusterSize) * clusterSize };
  }

  *#runs(start: number, end: number): Generator<{ at: number; end: number; state: ClusterState }> {
    for (let at = start; at < end;) {
      const run = this.#run(at, end);
      yield { at, ...run };
      at = run.end;
    }
  }

  /** The state at byte `at`, and the byte up to which it holds, at most `limit`. */
  #run(at: number, limit: number): { end: number; state: ClusterState } {
    const { clusterSize } = this.#layout;
    const cluster = Math.floor(at / clusterSize);
    const { state, end } = this.#map.run(cluster, Math.ceil(limit / clusterSize));
    if (state !== inPart) return { state, end: Math.min(limit, end * clusterSize) };
    const start = cluster * clusterSize;
    const count = clusterSize / sectorSize;
    let sector = Math.floor((at - start) / sectorSize);
    const there = this.#sectors!.has(cluster, sector);
    do sector++;
    while (sector < count && this.#sectors!.has(cluster, sector) === there);
    return { state: there ? inStore : inBase, end: Math.min(limit, start + sector * sectorSize) };
  }

  /** Another device's extents as they are if they are whole blocks of this one; else as data. */
  #wholeBlocks(extents: readonly Extent[]): readonly Extent[] {
    const { blockSize } = this.info;
    if (extents.every(({ length }) => length % blockSize === 0)) return extents;
    const length = extents.reduce((sum, extent) => sum + extent.length, 0);
    const whole = Math.max(blockSize, length - (length % blockSize));
    return [{ offset: extents[0]!.offset, length: whole, hole: false, zero: false }];
  }

  #place(at: number): number {
    return this.#layout.dataOffset + at;
  }

  #endOf(cluster: number): number {
    return Math.min(this.#layout.baseSize, (cluster + 1) * this.#layout.clusterSize);
  }
}

/** A cluster's bytes could not be read to go with what is written to it. */
class BaseFailure extends BlockError {
  constructor(cause: unknown) {
    const { kind, message } = blockErrorOf(cause);
    super(kind, message, { cause });
  }
}

/** The part of a change's options that a read has. */
function forRead({ signal, tag }: RequestOptions): RequestOptions {
  return { ...(signal && { signal }), ...(tag !== undefined && { tag }) };
}
