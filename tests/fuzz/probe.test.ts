/**
 * Disks that were made to do harm: nonsense with true signatures, and real tables with changed
 * bytes. A probe may find anything, but it ends, reads a bounded number of bytes, never throws, and
 * what it gives is of the form it promises.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TraceFilter } from '../../src/block/filters/trace.js';
import { openPartition } from '../../src/probe/partition.js';
import { probeDisk } from '../../src/probe/probe.js';
import { FarbusError } from '../../src/base/errors.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { gptDisk, putMbr, sealGpt } from '../unit/probe-disks.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';

const runs = inputsWanted(300, 5000);
const size = 512 << 10;

/** Signatures at the places where they count. */
const signatures: readonly (readonly [number, string])[] = [
  [0, 'XFSB'],
  [0, 'hsqs'],
  [0, 'LUKS\xba\xbe\0\x02'],
  [0, 'QFI\xfb'],
  [3, 'NTFS    '],
  [3, 'EXFAT   '],
  [0, '\xeb\x3c\x90mkfs.fat\0\x02\x04\x01\0\x02\0\x02\0\x02\xf8'],
  [512, 'EFI PART'],
  [512, 'LABELONE'],
  [536, 'LVM2 001'],
  [1024, '\x10\x20\xf5\xf2'],
  [1024, 'H+\0\x04'],
  [1080, '\x53\xef'],
  [4086, 'SWAPSPACE2'],
  [4096, '\xfc\x4e\x2b\xa9\x01\0\0\0'],
  [32768, '\x01CD001'],
  [34816, '\0BEA01'],
  [36864, '\0NSR02'],
  [65600, '_BHRfS_M'],
  [66908, '\x19\x01\x54\x19'],
  [510, '\x55\xaa'],
];

const patch = fc.record({
  at: fc.oneof(
    fc.integer({ min: 0, max: 2048 }),
    fc.integer({ min: 0, max: size - 64 }),
    fc.integer({ min: size - 1024, max: size - 64 }),
  ),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 48 }),
});
const disk = fc
  .record({
    table: fc.constantFrom('none', 'gpt', 'sealed gpt', 'mbr'),
    signatures: fc.subarray([...signatures], { maxLength: 4 }),
    patches: fc.array(patch, { maxLength: 12 }),
    entries: fc.array(
      fc.record({
        type: fc.constantFrom(0, 5, 0x0f, 0x83, 0xee, 7),
        start: fc.oneof(fc.nat(1023), fc.nat(0xffffffff)),
        count: fc.oneof(fc.nat(1023), fc.nat(0xffffffff)),
        flag: fc.constantFrom(0, 0x80, 1),
      }),
      { maxLength: 4 },
    ),
    noise: fc.boolean(),
  })
  .map(({ table, signatures: chosen, patches, entries, noise }) => {
    const bytes = table.includes('gpt') ? gptDisk(size / 512) : new Uint8Array(size);
    if (noise) for (let at = 2048; at < size; at++) bytes[at] = (Math.imul(at, 0x9e3779b1) >>> 24) & 0xff;
    if (table === 'mbr') for (let at = 0; at < 1024; at += 1 + (at % 7)) putMbr(bytes, at, entries);
    for (const { at, bytes: what } of patches) bytes.set(what, at);
    for (const [at, text] of chosen)
      for (const [i, letter] of [...text].entries()) bytes[at + i] = letter.charCodeAt(0);
    if (table === 'sealed gpt') sealGpt(bytes, 512);
    return bytes;
  });

it(
  'ends cleanly on any disk',
  async () => {
    await attack(
      fc.asyncProperty(disk, async (bytes) => {
        let read = 0;
        const device = new TraceFilter(new MemoryDevice(bytes), ({ op, length }) => {
          expect(op).toBe('read');
          read += length;
        });
        const { table, content, problems } = await probeDisk(device);
        expect(read).toBeLessThanOrEqual(size);
        expect(problems.length).toBeLessThanOrEqual(33);
        const contents = [content, ...(table?.partitions ?? []).map((one) => one.content)];
        for (const found of contents) {
          const text = `${found?.type} ${found?.label ?? ''} ${found?.uuid ?? ''} ${problems.join(' ')}`;
          expect(text).not.toMatch(/\p{Cc}/u);
        }
        for (const { start, size: length, number } of table?.partitions ?? []) {
          expect(Number.isSafeInteger(start) && Number.isSafeInteger(length) && start >= 0 && length > 0).toBe(true);
          await openPartition(device, number).catch((error: unknown) => expect(error).toBeInstanceOf(FarbusError));
          break;
        }
      }),
      runs,
    );
  },
  patience,
);
