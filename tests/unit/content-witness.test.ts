/** ContentWitness: recognising a disk by its content after a reconnect. */
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { BlockError } from '../../src/block/errors.js';
import { ContentWitness, type WitnessRead } from '../../src/block/witness.js';
import { MemoryDevice } from '../../src/storage/memory.js';

const size = 1 << 20;
const patterned = (seed: number): MemoryDevice =>
  new MemoryDevice(Uint8Array.from({ length: size }, (_, i) => (i >> 12) * 7 + seed));
const empty = (): MemoryDevice => new MemoryDevice(size);
const reading =
  (disk: MemoryDevice): WitnessRead =>
  (offset, into) =>
    disk.read(offset, into);

/** A disk as an initiator uses it: the witness sees every request. */
function watched(disk: MemoryDevice) {
  const witness = new ContentWitness();
  return {
    witness,
    async read(offset: number, length = 4096) {
      const into = buffersOf(new Uint8Array(length));
      const done = disk.read(offset, into);
      witness.onRead(offset, into, done);
      await done;
    },
    async write(offset: number, length = 4096, byte = 0xa5) {
      const from = buffersOf(new Uint8Array(length).fill(byte));
      const done = disk.write(offset, from);
      witness.onWrite(offset, length, from, done);
      await done;
    },
    async flush() {
      const done = disk.flush();
      witness.onFlush(done);
      await done;
    },
    check: (now: MemoryDevice) => witness.check(reading(now)),
  };
}

describe('a content witness', () => {
  it('tells the same disk from another one by data that was read', async () => {
    const disk = watched(patterned(1));
    await disk.read(8192, 65536);
    expect(await disk.check(patterned(1))).toBe('same');
    expect(await disk.check(patterned(2))).toBe('other');
  });

  it('is not misled by later writes', async () => {
    const real = patterned(1);
    const disk = watched(real);
    await disk.read(0);
    await disk.read(8192);
    await disk.write(0, 4096);
    expect(await disk.check(real)).toBe('same');
    await disk.flush();
    expect(await disk.check(real)).toBe('same');
    expect(await disk.check(patterned(1))).toBe('other');
  });

  it('is not misled by writes over another connection while it looks', async () => {
    const real = patterned(1);
    const disk = watched(real);
    await disk.read(8192);
    await disk.read(16384);
    await disk.flush();
    let first = true;
    const verdict = disk.witness.check(async (offset, into) => {
      if (first) {
        first = false;
        await disk.write(8192);
        await disk.write(16384);
      }
      await real.read(offset, into);
    });
    expect(await verdict).toBe('same');
  });

  it('accepts any disk if nothing was used, and an empty one if it was only read', async () => {
    expect(await watched(empty()).check(patterned(1))).toBe('same');
    const disk = watched(empty());
    await disk.read(0);
    expect(await disk.check(empty())).toBe('same');
    expect(await disk.check(patterned(1))).toBe('other');
  });

  it('does not accept an empty disk that lacks the data written before', async () => {
    const disk = watched(empty());
    await disk.read(0);
    await disk.write(40960);
    expect(await disk.check(empty())).toBe('unknown');
    await disk.flush();
    expect(await disk.check(empty())).toBe('other');
  });

  it('forgets unflushed writes that a crash of the server took', async () => {
    const disk = watched(patterned(1));
    await disk.read(0);
    await disk.write(8192);
    expect(await disk.check(patterned(1))).toBe('same');
    await disk.flush();
    expect(await disk.check(patterned(1))).toBe('same');
  });

  it('ignores overlapping writes, and reads that overlap a write', async () => {
    const witness = new ContentWitness();
    const ends: (() => void)[] = [];
    const pending = (): Promise<void> => new Promise((resolve) => ends.push(resolve));
    const bytes = buffersOf(new Uint8Array(4096).fill(1));
    witness.onWrite(0, 4096, bytes, pending());
    witness.onWrite(2048, 4096, bytes, pending());
    witness.onRead(0, bytes, Promise.resolve());
    for (const end of ends.reverse()) end();
    await new Promise((resolve) => setImmediate(resolve));
    witness.onFlush(Promise.resolve());
    await new Promise((resolve) => setImmediate(resolve));
    expect(await witness.check(reading(empty()))).toBe('unknown');
  });

  it('recognises the disk by a block whose write is in flight or has failed, by its old and its new content', async () => {
    for (const fails of [false, true]) {
      const real = empty();
      const disk = watched(real);
      await disk.write(0, 4096, 1);
      let end!: () => void;
      const done = new Promise<void>((resolve, reject) => (end = fails ? () => reject(new Error('lost')) : resolve));
      disk.witness.onWrite(0, 4096, buffersOf(new Uint8Array(4096).fill(2)), done);
      if (fails) end();
      await new Promise((resolve) => setImmediate(resolve));
      expect(await disk.check(real)).toBe('same');
      await real.write(0, buffersOf(new Uint8Array(4096).fill(2)));
      expect(await disk.check(real)).toBe('same');
      await real.write(0, buffersOf(new Uint8Array(4096).fill(3)));
      expect(await disk.check(real)).toBe('unknown');
      end();
    }
  });

  it('forgets a block after a partial write', async () => {
    const disk = watched(patterned(1));
    await disk.read(0);
    await disk.write(512, 512);
    await disk.flush();
    expect(await disk.check(patterned(1))).toBe('other');
    expect(await disk.check(empty())).toBe('other');
  });

  it('accepts an empty disk if the first was only zeroed and trimmed', async () => {
    const disk = watched(empty());
    await disk.read(0);
    await disk.write(0, 4096, 0);
    const trim = Promise.resolve();
    disk.witness.onWrite(8192, 4096, undefined, trim);
    await trim;
    await disk.flush();
    expect(await disk.check(empty())).toBe('same');
    expect(await disk.check(patterned(1))).toBe('other');
  });

  it('skips blocks that cannot be read, and rejects if the connection fails', async () => {
    const real = patterned(1);
    const disk = watched(real);
    await disk.read(0);
    await disk.read(4096);
    const bad: WitnessRead = (offset, into) =>
      offset === 0 ? Promise.reject(new BlockError('io', 'bad sector')) : real.read(offset, into);
    expect(await disk.witness.check(bad)).toBe('same');
    const lost: WitnessRead = () => Promise.reject(new BlockError('unreachable', 'lost'));
    await expect(disk.witness.check(lost)).rejects.toThrow('lost');
  });

  it('recognises a disk of one block during a write, before and after the write', async () => {
    const real = new MemoryDevice(4096);
    const disk = watched(real);
    await disk.write(0, 4096, 1);
    const inFlight = (byte: number): void => {
      const from = buffersOf(new Uint8Array(4096).fill(byte));
      disk.witness.onWrite(0, 4096, from, new Promise(() => undefined));
    };
    inFlight(2);
    expect(await disk.check(real)).toBe('same');
    await real.write(0, new Uint8Array(4096).fill(2));
    expect(await disk.check(real)).toBe('same');
    inFlight(3);
    expect(await disk.check(real)).toBe('same');
    expect(await disk.check(new MemoryDevice(4096))).toBe('unknown');
    await disk.write(0, 4096, 4);
    expect(await disk.check(real)).toBe('same');
  });

  it('recognises a block that many overlapping writes were changing', async () => {
    const real = new MemoryDevice(4096);
    const disk = watched(real);
    for (let byte = 1; byte <= 100; byte++) {
      const from = buffersOf(new Uint8Array(4096).fill(byte));
      disk.witness.onWrite(0, 4096, from, byte < 50 ? Promise.resolve() : new Promise(() => undefined));
    }
    await Promise.resolve();
    await real.write(0, new Uint8Array(4096).fill(17));
    expect(await disk.check(real)).toBe('same');
    expect(await disk.check(new MemoryDevice(4096))).toBe('unknown');
  });

  it('compares whole blocks if those are longer than a sample', async () => {
    const witness = new ContentWitness(8192);
    const real = patterned(1);
    const into = buffersOf(new Uint8Array(16384));
    const done = real.read(0, into);
    witness.onRead(0, into, done);
    await done;
    const lengths: number[] = [];
    const verdict = await witness.check((offset, buffers) => {
      lengths.push(buffers.length);
      return real.read(offset, buffers);
    });
    expect([verdict, lengths]).toEqual(['same', [8192]]);
  });

  it('does not reject a disk for data that a failed flush has lost', async () => {
    const real = patterned(1);
    const disk = watched(real);
    await disk.read(0);
    await disk.flush();
    await disk.write(8192);
    const failed = Promise.reject(new BlockError('io', 'the disk is broken'));
    disk.witness.onFlush(failed);
    await failed.catch(() => undefined);
    await disk.read(8192);
    await disk.flush();
    expect(await disk.check(patterned(1))).toBe('same');
    expect(await disk.check(patterned(2))).toBe('other');
  });
});
