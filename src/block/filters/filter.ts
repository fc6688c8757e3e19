/**
 * Filter: a block device that passes its requests to the next device. This base class passes on
 * every request, its options and the device's facts unchanged; a subclass overrides what it
 * changes. A filter owns the next device: closing the filter closes that device.
 *
 * Not passed on unless the subclass does it: media and versions of the content (`keepsNothing`),
 * and synchronous transfers and file ranges (`uncheckedDirect`, `uncheckedFiles`), because they
 * bypass {@link Filter.around}.
 */
import type { Buffers } from '../../base/buffers.js';
import { BlockBase } from '../base.js';
import type { Losses } from '../losses.js';
import type { WriterLock } from '../writer-lock.js';
import type {
  BlockDevice,
  BlockInfo,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from '../device.js';

/** The kinds of request. */
export type BlockOperation = 'read' | 'write' | 'flush' | 'trim' | 'writeZeroes' | 'extents';

/** One request, as {@link Filter.around} receives it. */
export interface BlockRequest {
  /** The kind of the request. */
  readonly op: BlockOperation;
  /** Bytes; 0 for a flush. */
  readonly offset: number;
  /** Bytes; 0 for a flush. */
  readonly length: number;
  /** The options of the request, as its caller gave them. */
  readonly options: ZeroOptions;
}

/**
 * The base class of filters: passes on every request unchanged. A subclass overrides what it
 * changes.
 */
export class Filter extends BlockBase {
  /** The device to which requests are passed. */
  protected readonly next: BlockDevice;
  #seen: BlockInfo | undefined;
  #shown: BlockInfo | undefined;

  constructor(next: BlockDevice) {
    super();
    this.next = next;
  }

  /** The facts of this device, from those of the next one. */
  get info(): BlockInfo {
    const seen = this.next.info;
    if (seen !== this.#seen || !this.#shown) {
      this.#seen = seen;
      this.#shown = this.describe(seen);
    }
    return this.#shown;
  }

  /** The losses of the next device. */
  override get losses(): Losses {
    return this.next.losses;
  }

  /**
   * True if the filter still works after the next device has grown. Otherwise {@link refresh} has
   * no effect.
   */
  protected get follows(): boolean {
    return false;
  }

  /** Checks whether the next device has grown, if the filter {@link follows} it. */
  async refresh(): Promise<void> {
    if (this.follows) await this.next.refresh?.();
  }

  /**
   * True if the filter keeps no data and no facts of the next device between requests, and passes
   * on each request's options. Such a filter supports a drive whose media change. Any other filter
   * hides {@link media}: only the first medium can be used through it.
   */
  protected readonly keepsNothing: boolean = false;

  override get media(): RemovableMedia | undefined {
    return this.keepsNothing ? this.next.media : undefined;
  }

  override get writerLock(): WriterLock | undefined {
    return this.keepsNothing ? this.next.writerLock : undefined;
  }

  override get contentVersion(): BlockDevice['contentVersion'] {
    return this.keepsNothing ? this.next.contentVersion : undefined;
  }

  override get watchSize(): BlockDevice['watchSize'] {
    return this.follows ? this.next.watchSize : undefined;
  }

  /** This device's facts, given the next one's. */
  protected describe(next: BlockInfo): BlockInfo {
    return next;
  }

  /**
   * Called for every request that a subclass does not handle itself. `pass` runs it on the next
   * device.
   */
  protected around<T>(_request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    return pass();
  }

  protected doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    return this.around({ op: 'read', offset, length: into.length, options }, () =>
      this.next.read(offset, into, options),
    );
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.around({ op: 'write', offset, length: from.length, options }, () =>
      this.next.write(offset, from, options),
    );
  }

  protected doFlush(options: RequestOptions): Promise<void> {
    return this.around({ op: 'flush', offset: 0, length: 0, options }, () => this.next.flush(options));
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.around({ op: 'trim', offset, length, options }, () => this.next.trim(offset, length, options));
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    return this.around({ op: 'writeZeroes', offset, length, options }, () =>
      this.next.writeZeroes(offset, length, options),
    );
  }

  protected override doExtents(offset: number, length: number, options: RequestOptions): Promise<readonly Extent[]> {
    return this.around({ op: 'extents', offset, length, options }, () => this.next.extents(offset, length, options));
  }

  protected doClose(): Promise<void> {
    return this.next.close();
  }
}
