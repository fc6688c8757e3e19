/** ContentWitness: recognising a disk by its content after a reconnect. */
import { describe, expect, it } from 'vitest';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { BlockError } from '../../src/block/errors.js';
import { ContentWitness, type WitnessRead } from '../../src/block/witness.js';
import { MemoryDevice } from '../../src/storage/memory.js';

const size = 1 << 20;
const patterned = (seed: number): MemoryDevice =>
  new MemoryDevice(Uint8Array.from({ length: size }, (_, i) => (i >> 12) * 7 + seed));
const reading =
  (disk: MemoryDevice): WitnessRead =>
  (offset, into: Buffers) =>
    disk.read(offset, into);

/** Writes as an initiator does, and flushes if `durable`. */
async function write(disk: MemoryDevice, witness: ContentWitness, offset: number, length: number, durable = true) {
  const done = disk.write(offset, buffersOf(new Uint8Array(length).fill(0xa5)));
  witness.track(offset, length, done);
  await done;
  if (!durable) return;
  const flush = disk.flush();
  witness.flushing(flush, reading(disk));
  await flush;
  await new Promise((resolve) => setImmediate(resolve));
}

async function witnessOf(disk: MemoryDevice): Promise<ContentWitness> {
  const witness = new ContentWitness(size, 512);
  await witness.learn(reading(disk));
  return witness;
}

describe('a content witness', () => {
  it('knows the same disk and another one', async () => {
    const witness = await witnessOf(patterned(1));
    expect(await witness.check(reading(patterned(1)))).toBe('same');
    expect(await witness.check(reading(patterned(2)))).toBe('other');
  });

  it('is not misled by what was written since, flushed or not', async () => {
    const disk = patterned(1);
    const witness = await witnessOf(disk);
    await write(disk, witness, 0, 65536, false);
    expect(await witness.check(reading(disk))).toBe('same');
    await write(disk, witness, 0, 8192);
    expect(await witness.check(reading(disk))).toBe('same');
  });

  it('says that it does not know when every block may have changed', async () => {
    const disk = patterned(1);
    const witness = await witnessOf(disk);
    await write(disk, witness, 0, size, false);
    expect(await witness.check(reading(patterned(2)))).toBe('unknown');
  });

  it('knows an empty disk by what was written and flushed, away from the even spots too', async () => {
    const disk = new MemoryDevice(size);
    const witness = await witnessOf(disk);
    expect(await witness.check(reading(new MemoryDevice(size)))).toBe('same');
    await write(disk, witness, 40960 + 512, 512);
    expect(await witness.check(reading(disk))).toBe('same');
    expect(await witness.check(reading(new MemoryDevice(size)))).toBe('other');
  });

  it('does not take an empty disk for the one that has unflushed writes', async () => {
    const disk = new MemoryDevice(size);
    const witness = await witnessOf(disk);
    await write(disk, witness, 40960, 4096, false);
    expect(await witness.check(reading(new MemoryDevice(size)))).toBe('unknown');
  });

  it('leaves out what a write in flight may change while the flush is running', async () => {
    const disk = patterned(1);
    const witness = await witnessOf(disk);
    let finish!: () => void;
    witness.track(0, 4096, new Promise<void>((resolve) => (finish = resolve)));
    const flush = disk.flush();
    witness.flushing(flush, reading(disk));
    await flush;
    await new Promise((resolve) => setImmediate(resolve));
    await disk.write(0, buffersOf(new Uint8Array(4096).fill(9)));
    finish();
    expect(await witness.check(reading(disk))).toBe('same');
  });

  it('leaves out blocks that cannot be read, and rejects if the connection fails', async () => {
    const disk = patterned(1);
    const witness = await witnessOf(disk);
    const bad: WitnessRead = (offset, into) =>
      offset === 0 ? Promise.reject(new BlockError('io', 'bad sector')) : disk.read(offset, into);
    expect(await witness.check(bad)).toBe('same');
    const lost: WitnessRead = () => Promise.reject(new BlockError('unreachable', 'lost'));
    await expect(witness.check(lost)).rejects.toThrow('lost');
  });
});
