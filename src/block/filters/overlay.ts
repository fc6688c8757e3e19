/**
 * Overlay filter: copy-on-write. Writes go to a store; data that was never written is read from the
 * base, which is never changed. The store is any block device that is large enough. Its format, and
 * its guarantees after a crash, are in docs/overlay.md.
 *
 * For safety a cluster's bytes must be durable on the store before the map says that they are
 * there. So a flush makes the data durable, then writes the changed pages of the map as they were
 * before, then makes these durable.
 *
 * No synchronous transfers and no file ranges: where a block is depends on the map.
 *
 * Not here: creating and opening an overlay (overlay-store.ts), the format (overlay-format.ts).
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

/** Most extents in one answer. */
const maxExtents = 256;

/** Copy-on-write: writes go to a store, and the base is never changed. */
export class OverlayFilter extends BlockBase {
  #info: BlockInfo;
  readonly #base: BlockDevice;
  readonly #store: BlockDevice;
  readonly #layout: OverlayLayout;
  readonly #map: ClusterMap;
  /**
   * Undefined in overlays of Farbus 0.1.0, in which a cluster is in the store as a whole or not at
   * all.
   */
  readonly #sectors: SectorTable | undefined;
  /** Locks cluster numbers: two changes of one cluster must not both copy it. */
  readonly #lock = new RangeLock();
  #lastFlush: Promise<void> = Promise.resolve();
  #nextFlush: Promise<void> | undefined;

  /**
   * For createOverlay and openOverlay (overlay-store.ts). Takes over both devices: `close` closes
   * them.
   */
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
    this.#info = {
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

  /** The way to the base is the base's own fact. */
  get info(): BlockInfo {
    const { route, away } = this.#base.info;
    if (route !== this.#info.route || away !== this.#info.away) this.#info = { ...this.#info, route, away };
    return this.#info;
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
    // One flush at a time. Calls during a flush share the next one, which begins after they came.
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
      // Partial clusters keep their content: a trim is only a hint.
      const { from, to } = this.#wholeClusters(offset, offset + length);
      if (from < to) await this.#clear(from, to, options);
    });
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    // Clusters that must stay allocated have to be written: let the base class write zeroes.
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
      const what = 'data written since the last flush is lost';
      throw new BlockError(kind, `the overlay cannot be written when it is closed: ${why}; ${what}`, { cause: error });
    } finally {
      await inParallel([() => this.#store.close(), () => this.#base.close()]);
    }
  }

  /** Writes `from` at `offset`. The caller has locked the clusters. */
  async #write(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const { clusterSize } = this.#layout;
    const end = offset + from.length;
    // The first and the last cluster, if only a part is written and the rest is not in the store
    // yet.
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
   * Writes a whole cluster to the store: the bytes of `from` (which begins at `offset`) in it, and
   * its other bytes as they read now. If the base cannot read these, only the sectors that `from`
   * touches go to the store, so that a bad sector of the base does not make its whole cluster bad.
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

  /**
   * Writes [start, end) to the store: its present content, overwritten by the bytes of `from` in
   * it.
   */
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

  /**
   * Makes the whole clusters in [from, to) read as zeroes. In bytes; the device's last cluster
   * counts as whole.
   */
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
   * Frees the store's space of [at, end) if that is fast. It zeroes instead of trimming: until the
   * new map is durable, a crash brings back the old map, which must then find the old bytes or
   * zeroes there.
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
      // The sector table first: the map must not call a cluster partial before its sectors are in
      // the table.
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

  /**
   * The whole clusters within [start, end), in bytes. The device's last cluster counts as whole if
   * the range reaches its end.
   */
  #wholeClusters(start: number, end: number): { from: number; to: number } {
    const { clusterSize, baseSize } = this.#layout;
    const from = Math.ceil(start / clusterSize) * clusterSize;
    return { from, to: end === baseSize ? end : Math.floor(end / clusterSize) * clusterSize };
  }

  /** Divides [start, end) into runs of one state. */
  *#runs(start: number, end: number): Generator<{ at: number; end: number; state: ClusterState }> {
    for (let at = start; at < end;) {
      const run = this.#run(at, end);
      yield { at, ...run };
      at = run.end;
    }
  }

  /** The state at byte `at`, and the end of the run of that state, at most `limit`. */
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

  /**
   * Extents of another device if they consist of whole blocks of this one; else one extent of data
   * over them.
   */
  #wholeBlocks(extents: readonly Extent[]): readonly Extent[] {
    const { blockSize } = this.info;
    if (extents.every(({ length }) => length % blockSize === 0)) return extents;
    const length = extents.reduce((sum, extent) => sum + extent.length, 0);
    const whole = Math.max(blockSize, length - (length % blockSize));
    return [{ offset: extents[0]!.offset, length: whole, hole: false, zero: false }];
  }

  /** The offset on the store of byte `at` of the overlay. */
  #place(at: number): number {
    return this.#layout.dataOffset + at;
  }

  #endOf(cluster: number): number {
    return Math.min(this.#layout.baseSize, (cluster + 1) * this.#layout.clusterSize);
  }
}

/** The other bytes of a partly written cluster could not be read. */
class BaseFailure extends BlockError {
  constructor(cause: unknown) {
    const { kind, message } = blockErrorOf(cause);
    super(kind, message, { cause });
  }
}

/** The options of a write that also apply to a read. */
function forRead({ signal, traceId }: RequestOptions): RequestOptions {
  return { ...(signal && { signal }), ...(traceId !== undefined && { traceId }) };
}
