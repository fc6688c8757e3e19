/**
 * One flipped bit in the headers and tables of the files that Farbus keeps is detected, or does no
 * harm. Snapshots are tested in snapshot.test.ts. No checksum covers the map and data of an
 * overlay (docs/overlay.md).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { silent } from '../../src/base/log.js';
import { readJournal, writeJournal, type CopyJournal } from '../../src/app/copy/journal.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { Random } from '../../src/conformance/random.js';
import { tempFolder } from '../support/temp.js';

const more = process.env['FARBUS_TEST_ALL'] ? 8 : 1;
const size = 256 << 10;

/** Bits of a header to flip: those of all fields, of its checksum, and some of the others. */
function headerBits(random: Random): number[] {
  const bits = Array.from({ length: 80 * 8 }, (_, bit) => bit).filter((bit) => more > 1 || bit % 5 === 0 || bit < 96);
  for (let bit = 4092 * 8; bit < 4096 * 8; bit++) bits.push(bit);
  for (let i = 0; i < 60 * more; i++) bits.push(random.below(4096 * 8));
  return bits;
}

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  return changed;
}

async function contentOf(drive: string): Promise<Uint8Array> {
  const device = await openSource(parseSource(drive), { log: silent });
  try {
    const bytes = new Uint8Array(size);
    await device.read(0, bytes);
    return bytes;
  } finally {
    await device.close();
  }
}

test('a flipped bit in the header of an overlay is found, and the file stays unchanged', async () => {
  const folder = tempFolder();
  const [base, path] = [join(folder, 'base'), join(folder, 'o')];
  writeFileSync(base, new Random(1).bytes(size));
  const drive = `raw:${base},overlay=${path}`;
  const device = await openSource(parseSource(drive), { log: silent });
  await device.write(0, new Uint8Array(4096).fill(1));
  await device.close();
  const good = readFileSync(path);
  for (const bit of headerBits(new Random(2))) {
    const bad = flipped(good, bit);
    writeFileSync(path, bad);
    await expect(openSource(parseSource(drive), { log: silent }), `bit ${bit}`).rejects.toThrow(
      /damaged|not an overlay|of version/,
    );
    expect(Buffer.compare(readFileSync(path), bad)).toBe(0);
  }
});

test('a flipped bit of a kept cache never gives wrong bytes', async () => {
  const folder = tempFolder();
  const [source, path] = [join(folder, 'source'), join(folder, 'c')];
  const content = new Random(3).bytes(size);
  writeFileSync(source, content);
  const drive = `raw:${source},cache=${path},cache-keep`;
  await contentOf(drive);
  const good = readFileSync(path);
  const random = new Random(4);
  const table = Array.from({ length: 40 * more }, () => 4096 * 8 + random.below(64 * 8));
  const data = Array.from({ length: 20 * more }, () => 65536 * 8 + random.below(size * 8));
  for (const bit of [...headerBits(random), ...table, ...data]) {
    writeFileSync(path, flipped(good, bit));
    const found = await contentOf(drive).catch((error: Error) => error.message);
    if (typeof found === 'string') expect(found, `bit ${bit}`).toMatch(/is not a cache/);
    else expect(Buffer.compare(found, content), `bit ${bit}`).toBe(0);
  }
}, 600_000);

test('a flipped bit in the journal of a copy is found, or changes nothing', async () => {
  const path = join(tempFolder(), 'journal');
  const end = { size: 1 << 30, identity: `size=${1 << 30} file=12:345` };
  const journal: CopyJournal = { version: 2, from: { ...end, changed: 1234.5 }, to: end, position: 123 << 20 };
  await writeJournal(path, journal);
  const good = readFileSync(path);
  let harmless = 0;
  for (let bit = 0; bit < good.length * 8; bit++) {
    writeFileSync(path, flipped(good, bit));
    const found = await readJournal(path).catch((error: Error) => error.message);
    if (typeof found === 'string') expect(found).toMatch(/no journal of a copy/);
    else expect(found, `bit ${bit}`).toMatchObject({ ...journal, position: (harmless++, journal.position) });
  }
  // Harmless bits are in the white space at the end.
  expect(harmless).toBeLessThan(8);
});
