/** Disks whose requests wait or fail, as a test controls it. */
import { onAbort } from '../../src/base/abort.js';
import type { Buffers } from '../../src/base/buffers.js';
import type { RequestOptions, WriteOptions } from '../../src/block/device.js';
import { BlockError, type BlockErrorKind } from '../../src/block/errors.js';
import { MemoryDevice } from '../../src/storage/memory.js';

/** A disk whose reads and writes wait until the test opens the gate or the caller aborts them. */
export class GatedDisk extends MemoryDevice {
  readonly waiting: (() => void)[] = [];
  gated = true;
  /** If false, an aborted request continues to wait, like a request that is in flight. */
  honoursAbort = true;
  aborted = 0;

  override async read(offset: number, into: Buffers, options: RequestOptions = {}): Promise<void> {
    await this.#gate(options);
    return super.read(offset, into);
  }

  override async write(offset: number, from: Buffers, options: WriteOptions = {}): Promise<void> {
    await this.#gate(options);
    return super.write(offset, from);
  }

  open(): void {
    this.gated = false;
    for (const go of this.waiting.splice(0)) go();
  }

  async #gate(options: RequestOptions): Promise<void> {
    if (!this.gated) return;
    await new Promise<void>((resolve, reject) => {
      this.waiting.push(resolve);
      onAbort(options.signal, () => {
        this.aborted++;
        if (this.honoursAbort) reject(new BlockError('aborted', 'given up'));
      });
    });
  }
}

/** A disk whose requests fail with `kind`, as long as it is set. */
export class FailingDisk extends MemoryDevice {
  kind: BlockErrorKind | undefined;

  constructor(size: number, kind: BlockErrorKind) {
    super(size);
    this.kind = kind;
  }

  override read(offset: number, into: Buffers): Promise<void> {
    return this.kind ? this.#fail() : super.read(offset, into);
  }

  override write(offset: number, from: Buffers): Promise<void> {
    return this.kind ? this.#fail() : super.write(offset, from);
  }

  #fail(): Promise<void> {
    return Promise.reject(new BlockError(this.kind!, 'as asked'));
  }
}
