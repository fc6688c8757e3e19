/** A disk of 1 MiB that answers synchronously while it is ready, and counts both kinds of calls. */
import { ReadyMemoryDevice } from '../../src/storage/memory.js';

export const mediumBytes = 1 << 20;

export class AtOnceMedium extends ReadyMemoryDevice {
  /** Set it to refuse synchronous access at some offsets. */
  ready: (offset: number) => boolean = () => true;
  /** Synchronous reads and writes that were done. */
  atOnce = 0;
  /** Asynchronous reads and writes. */
  later = 0;

  constructor() {
    super(Uint8Array.from({ length: mediumBytes }, (_, at) => (at * 7 + (at >> 9)) & 0xff));
  }

  get content(): Uint8Array {
    return this.bytes;
  }

  protected override readDirect(offset: number, into: Uint8Array): boolean {
    if (!this.ready(offset)) return false;
    this.atOnce++;
    return super.readDirect(offset, into);
  }

  protected override writeDirect(offset: number, from: Uint8Array): boolean {
    if (!this.ready(offset)) return false;
    this.atOnce++;
    return super.writeDirect(offset, from);
  }

  override read(...request: Parameters<ReadyMemoryDevice['read']>): Promise<void> {
    this.later++;
    return super.read(...request);
  }

  override write(...request: Parameters<ReadyMemoryDevice['write']>): Promise<void> {
    this.later++;
    return super.write(...request);
  }
}
