/** A load on a disk that checks every block that it reads. */
import { setTimeout as sleep } from 'node:timers/promises';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes } from '../../src/conformance/subject.js';

const unit = 4096;

/**
 * Writers and readers, each on its own blocks, until stopped. The content of each block is always
 * known: a read that returns anything else, or any error, fails the test.
 */
export class VerifiedLoad {
  /** The content of the disk: all zeroes at first. */
  readonly model: Uint8Array;
  readonly #device: BlockDevice;
  readonly #workers: Promise<void>[];
  #over = false;
  rounds = 0;
  /** The longest time that one request took, in ms. The test may set it to 0. */
  longestMs = 0;

  constructor(device: BlockDevice, workers = 8) {
    this.#device = device;
    this.model = new Uint8Array(device.info.size);
    this.#workers = Array.from({ length: workers }, (_, index) => this.#work(index, workers));
    for (const worker of this.#workers) worker.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#workers);
  }

  /** Waits until `rounds` more rounds are done. Rejects if one failed. */
  async go(rounds: number): Promise<void> {
    const until = this.rounds + rounds;
    const failure = Promise.all(this.#workers);
    while (this.rounds < until) await Promise.race([sleep(10), failure]);
  }

  async #work(index: number, workers: number): Promise<void> {
    const random = new Random(index + 1);
    const share = this.model.length / unit / workers;
    while (!this.#over) {
      const count = 1 + random.below(random.chance(0.1) ? 64 : 8);
      const at = (index * share + random.below(share - count)) * unit;
      const part = this.model.subarray(at, at + count * unit);
      const choice = random.below(10);
      const bytes = choice < 4 ? random.bytes(part.length) : part;
      const began = performance.now();
      if (choice < 4) {
        await this.#device.write(at, buffersOf(bytes), { fua: random.chance(0.1) });
        part.set(bytes);
      } else if (choice < 5) {
        await this.#device.writeZeroes(at, part.length);
        part.fill(0);
      } else if (choice < 6) {
        await this.#device.flush();
      } else {
        await expectBytes(this.#device, at, part);
      }
      this.longestMs = Math.max(this.longestMs, performance.now() - began);
      this.rounds++;
    }
  }
}
