/**
 * The identity of a disk: comparing, formatting and parsing it, and finding it on devices and their
 * parts.
 */
import fs from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { buffersOf } from '../../src/base/buffers.js';
import { SliceFilter } from '../../src/block/filters/slice.js';
import {
  compareIdentity,
  sharesBytes,
  formatIdentity,
  marksOfPart,
  markKinds,
  maxMark,
  parseIdentity,
  type DiskMarks,
} from '../../src/block/identity.js';
import { identifyDisk } from '../../src/probe/disk-identity.js';
import { openFile } from '../../src/storage/file.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { tempFolder } from '../support/temp.js';

const size = 1 << 20;
const compare = (then: DiskMarks, now: DiskMarks, options = {}): string =>
  compareIdentity({ size, marks: then }, { size, marks: now }, options).verdict;

describe('comparing two identities', () => {
  it('refuses another size, whatever the marks are', () => {
    const marks = { hardware: 'wwn-1' };
    expect(compareIdentity({ size, marks }, { size: 2 * size, marks }).verdict).toBe('other');
  });

  it('decides by the most trusted kind that both have', () => {
    expect(compare({ hardware: 'a', table: 'x' }, { hardware: 'a', table: 'y' })).toBe('same');
    expect(compare({ hardware: 'a', table: 'x' }, { hardware: 'b', table: 'x' })).toBe('other');
    expect(compare({ hardware: 'a', table: 'x' }, { table: 'x' })).toBe('same');
    expect(compare({ file: '12:1' }, { file: '12:2' })).toBe('other');
  });

  it('cannot decide without a common mark', () => {
    expect(compare({}, {})).toBe('unknown');
    expect(compare({ hardware: 'a' }, { table: 'x' })).toBe('unknown');
  });

  it('takes an equal disk sequence number as proof, and a different one as none', () => {
    expect(compare({ sequence: 'boot1:5' }, { sequence: 'boot1:5' })).toBe('same');
    expect(compare({ sequence: 'boot1:5' }, { sequence: 'boot2:5' })).toBe('unknown');
    expect(compare({ sequence: 'boot1:5', table: 'x' }, { sequence: 'boot1:6', table: 'x' })).toBe('same');
  });

  it('wants equal content where data is kept that fits no other', () => {
    const then = { file: '12:1', filesystem: 'ext4:u', samples: '1.2.3' };
    expect(compare(then, { ...then, filesystem: 'ext4:v' })).toBe('same');
    expect(compare(then, { ...then, filesystem: 'ext4:v' }, { unchanged: true })).toBe('other');
    expect(compare(then, { ...then, samples: '1.2.4' })).toBe('same');
    expect(compare(then, { ...then, samples: '1.2.4' }, { unchanged: true })).toBe('other');
    expect(compare(then, { ...then, samples: '1.-.3' }, { unchanged: true })).toBe('same');
  });

  it('uses samples of the content only for content that must not have changed', () => {
    expect(compare({ samples: '1.2' }, { samples: '1.2' })).toBe('unknown');
    expect(compare({ samples: '1.2' }, { samples: '1.2' }, { unchanged: true })).toBe('same');
  });
});

describe('an identity as text', () => {
  it('is read back unchanged', () => {
    const value = fc.string({ minLength: 1, maxLength: maxMark, unit: fc.constantFrom(...'abz019:.@+-=_/') });
    const marks = fc.record(Object.fromEntries(markKinds.map((kind) => [kind, value])), { requiredKeys: [] });
    fc.assert(
      fc.property(fc.nat(), marks, (bytes, some) => {
        const identity = { size: bytes, marks: some as DiskMarks };
        expect(parseIdentity(formatIdentity(identity))).toEqual(identity);
      }),
    );
  });

  it('is refused if it is malformed', () => {
    for (const text of ['', 'file:abc', 'size=x', 'size=1 =a', 'table=x', `size=1 table=${'x'.repeat(maxMark + 1)}`]) {
      expect(parseIdentity(text)).toBeUndefined();
    }
    expect(parseIdentity('size=1 future=x table=y')).toEqual({ size: 1, marks: { table: 'y' } });
  });
});

describe('finding an identity', () => {
  it('tells a file from another one that was moved to its path', async () => {
    const folder = tempFolder();
    const [path, other] = [`${folder}/disk`, `${folder}/other`];
    for (const one of [path, other]) await fs.writeFile(one, new Uint8Array(65536));
    const find = async (): ReturnType<typeof identifyDisk> => {
      const device = await openFile(path);
      return identifyDisk(device).finally(() => device.close());
    };
    const first = await find();
    expect(compareIdentity(first, await find()).verdict).toBe('same');
    await fs.rename(path, `${folder}/renamed`);
    await fs.rename(other, path);
    expect(compareIdentity(first, await find()).verdict).toBe('other');
  });

  it('changes with the sampled content, and skips a block that cannot be read', async () => {
    const bytes = new Uint8Array(size).map((_, i) => i);
    const before = await identifyDisk(new MemoryDevice(bytes.slice()));
    const device = new MemoryDevice(bytes.slice());
    await device.write(size - 512, buffersOf(new Uint8Array(512)));
    const after = await identifyDisk(device);
    expect(compareIdentity(before, after, { unchanged: true }).verdict).toBe('other');
    expect(before.marks.samples!.split('.')).toHaveLength(16);
  });

  it('gives the parts of one disk different marks', () => {
    const marks = { hardware: 'wwn-1', table: 'gpt:x' };
    expect(marksOfPart(marks, 0, 512)).toEqual({ hardware: 'wwn-1@0+512' });
    const device = new MemoryDevice(size, { marks });
    expect(new SliceFilter(device, 512, 1024).info.marks).toEqual({ hardware: 'wwn-1@512+1024' });
  });
});

describe('two devices share bytes', () => {
  const part = (start: number, length: number) => ({
    size: length,
    marks: marksOfPart({ file: '12:1' }, start, length),
  });
  it('where their parts of one file overlap, and only there', () => {
    const whole = { size: 4096, marks: { file: '12:1' } };
    expect(sharesBytes(whole, whole)).toBe(true);
    expect(sharesBytes(whole, { size: 4096, marks: { file: '12:2' } })).toBe(false);
    expect(sharesBytes(whole, part(1024, 512))).toBe(true);
    expect(sharesBytes(part(0, 1024), part(512, 1024))).toBe(true);
    expect(sharesBytes(part(0, 1024), part(1024, 1024))).toBe(false);
    expect(sharesBytes({ size: 1, marks: {} }, { size: 1, marks: {} })).toBe(false);
  });
});
