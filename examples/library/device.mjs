// A block device of one's own, under the conformance suite: node --test examples/library/device.mjs
import test from 'node:test';
import { BlockBase, blockInfo } from 'farbus';
import { conformance } from 'farbus/conformance';

/** Keeps each block of 512 bytes that was written in a map. */
class SparseDevice extends BlockBase {
  info = blockInfo({ size: 1 << 20, maxTransfer: 512 });
  #blocks = new Map();
  async doRead(offset, into) {
    into.copyFrom(this.#blocks.get(offset) ?? new Uint8Array(512), 0);
  }
  async doWrite(offset, from) {
    const block = new Uint8Array(512);
    from.copyTo(block, 0);
    this.#blocks.set(offset, block);
  }
  async doClose() {}
}
for (const { name, run } of conformance(() => ({ device: new SparseDevice() }))) test(name, run);
