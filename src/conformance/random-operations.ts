/**
 * Conformance: a long random mixture of all requests, several at a time, compared with a model in
 * memory.
 */
import { buffersOf } from '../base/buffers.js';
import { PagedBuffers } from './paged-buffers.js';
import { Random } from './random.js';
import { allExtents } from './zeroes.js';
import { expect } from './expect.js';
import { expectError, expectSame, readBytes, type AddTest, type Subject } from './subject.js';

/**
 * The expected content of the device. After a trim a byte may have any value until it is written.
 */
class Model {
  readonly bytes: Uint8Array;
  readonly known: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.known = new Uint8Array(bytes.length).fill(1);
  }

  set(at: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, at);
    this.known.fill(1, at, at + bytes.length);
  }

  forget(at: number, length: number): void {
    this.known.fill(0, at, at + length);
  }

  /** Fails unless `got`, read at `at`, matches the known content. */
  check(at: number, got: Uint8Array, what: string): void {
    const wanted = got.slice();
    for (let i = 0; i < got.length; i++) if (this.known[at + i]) wanted[i] = this.bytes[at + i]!;
    expectSame(got, wanted, what);
  }
}

/** @param of The device to use, and its seed and steps; default: the subject's own. */
export function randomOperations(test: AddTest, of = (subject: Subject): Subject => subject): void {
  test('a random mixture of requests', async (subject) => {
    const { device, region, seed, steps } = of(subject);
    const { blockSize } = device.info;
    const random = new Random(seed * 7919);
    const model = new Model(await readBytes(device, 0, region));
    const blocks = region / blockSize;

    const operation = (at: number, length: number, name: string): Promise<void> => {
      switch (random.below(10)) {
        case 0:
        case 1:
        case 2: {
          const bytes = random.bytes(length);
          const fua = random.chance(0.1);
          let from = buffersOf(bytes);
          if (random.chance(0.5)) {
            from = PagedBuffers.scattered(length, random).buffers;
            from.copyFrom(bytes, 0);
          }
          return device.write(at, from, { fua }).then(() => model.set(at, bytes));
        }
        case 3: {
          const options = { fua: random.chance(0.1), noHole: random.chance(0.3), fastOnly: random.chance(0.3) };
          return device.writeZeroes(at, length, options).then(
            () => model.set(at, new Uint8Array(length)),
            (error: unknown) => {
              expect(options.fastOnly, `zeroing failed: ${String(error)}`);
              expectError('unsupported', error);
            },
          );
        }
        case 4:
          return device.trim(at, length, { fua: random.chance(0.1) }).then(() => model.forget(at, length));
        case 5:
          return device.flush();
        case 6:
          return allExtents(device, at, at + length).then((extents) => {
            for (const { offset, length: size, zero } of extents) {
              if (zero) model.check(offset, new Uint8Array(size), `${name}: extent called zero at ${offset}`);
            }
          });
        default: {
          const into = random.chance(0.5)
            ? PagedBuffers.scattered(length, random).buffers
            : buffersOf(new Uint8Array(length));
          return device.read(at, into).then(() => {
            const got = new Uint8Array(length);
            into.copyTo(got, 0);
            model.check(at, got, `${name}: read at ${at}`);
          });
        }
      }
    };

    for (let step = 0; step < steps;) {
      // A group of concurrent requests on disjoint ranges. The next group begins when all of them
      // are done.
      const group = 1 + random.below(8);
      const share = Math.max(1, Math.floor(blocks / group));
      const work: Promise<void>[] = [];
      for (let index = 0; index < group && (index + 1) * share <= blocks; index++, step++) {
        const longest = random.chance(0.1) ? share : Math.min(share, Math.max(1, Math.floor(32768 / blockSize)));
        const count = 1 + random.below(longest);
        const first = index * share + random.below(share - count + 1);
        work.push(operation(first * blockSize, count * blockSize, `seed ${seed}, step ${step}`));
      }
      await Promise.all(work);
    }
    model.check(0, await readBytes(device, 0, region), `seed ${seed}, at the end`);
  });
}
