/** A disk whose requests wait until the test releases them, and fail if the test says so. */
import type { Buffers } from '../../src/base/buffers.js';
import type { RequestOptions } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';
import { MemoryDevice } from '../../src/storage/memory.js';

interface Waiting {
  readonly what: string;
  readonly go: () => void;
  readonly fail: (error: unknown) => void;
}

export class GateDevice extends MemoryDevice {
  /** Waiting requests, oldest first. */
  readonly waiting: Waiting[] = [];
  /** While false, requests wait. */
  open = false;
  /** True if waiting requests end when they are aborted. */
  heedsAbort = false;
  /** Called when a request begins to wait. */
  changed: () => void = () => undefined;

  /** Releases all waiting requests, and all later ones. */
  release(): void {
    this.open = true;
    for (const { go } of this.waiting.splice(0)) go();
  }

  async arrived(count: number): Promise<void> {
    while (this.waiting.length < count) await new Promise<void>((resolve) => (this.changed = resolve));
  }

  async #pass(what: string, options: RequestOptions): Promise<void> {
    if (this.open) return;
    await new Promise<void>((resolve, reject) => {
      this.waiting.push({ what, go: resolve, fail: reject });
      if (this.heedsAbort) {
        options.signal?.addEventListener('abort', () => reject(new BlockError('aborted', 'given up')));
      }
      this.changed();
    });
  }

  protected override async doRead(offset: number, into: Buffers, options: RequestOptions = {}): Promise<void> {
    await this.#pass(`read ${offset}+${into.length}`, options);
    await super.doRead(offset, into);
  }

  protected override async doWrite(offset: number, from: Buffers, options: RequestOptions = {}): Promise<void> {
    await this.#pass(`write ${offset}+${from.length}`, options);
    await super.doWrite(offset, from);
  }

  protected override async doFlush(options: RequestOptions = {}): Promise<void> {
    await this.#pass('flush', options);
  }
}
