/**
 * A random load on a disk that the command line's text names, for record.ts. Every request writes a
 * line to the file `marks` when it begins and when it is answered.
 *
 * usage: load-filters.mjs DRIVE SEED OPERATIONS TIMES: opens and closes the disk so many times
 */
import { openSync, writeSync } from 'node:fs';
import { buffersOf } from '../../../dist/base/buffers.js';
import { parseSource } from '../../../dist/app/source-text.js';
import { openSource } from '../../../dist/app/sources.js';

const [drive, seed, operations, times] = process.argv.slice(2);
const block = 512;
const marks = openSync('marks', 'a');
const say = (mark) => writeSync(marks, JSON.stringify(mark));
let state = Number(seed);
const below = (limit) => {
  state = (state + 0x9e3779b9) >>> 0;
  let x = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return Math.floor((((x ^ (x >>> 16)) >>> 0) / 2 ** 32) * limit);
};
let stamp = 100_000_000 + Number(seed) * 1_000_000;
let id = 0;

for (let time = 0; time < Number(times); time++) {
  const disk = await openSource(parseSource(drive), { log: { log: () => undefined } });
  say({ opened: true });
  const blocks = disk.info.size / block;
  const busy = new Set();
  let begun = 0;
  const one = async () => {
    const kind = below(20);
    const self = id++;
    if (kind < 3) {
      say({ begin: self, flush: true });
      await disk.flush();
      return say({ answered: self });
    }
    // Most requests are on a few blocks, where they meet the ones before.
    const at = below(below(3) === 0 ? blocks : Math.min(blocks, 96));
    const count = Math.min(blocks - at, 1 + below(below(4) === 0 ? 24 : 4));
    const all = Array.from({ length: count }, (_, i) => at + i);
    // Two changes of one block at once have no order.
    if (all.some((index) => busy.has(index))) return new Promise((resolve) => setImmediate(resolve));
    for (const index of all) busy.add(index);
    const fua = below(6) === 0;
    const [offset, length] = [at * block, count * block];
    if (kind < 5) {
      await disk.read(offset, buffersOf(new Uint8Array(length)));
    } else if (kind < 15) {
      const stamps = all.map(() => ++stamp);
      const bytes = new Uint8Array(length);
      stamps.forEach((one, i) => bytes.set(new Uint8Array(new Uint32Array(block / 4).fill(one).buffer), i * block));
      say({ begin: self, at, stamps, fua });
      await disk.write(offset, buffersOf(bytes), { fua });
      say({ answered: self });
    } else if (kind < 17) {
      say({ begin: self, at, stamps: all.map(() => 'any'), fua: false });
      await disk.trim(offset, length);
      say({ answered: self });
    } else {
      say({ begin: self, at, stamps: all.map(() => 0), fua });
      await disk.writeZeroes(offset, length, { fua });
      say({ answered: self });
    }
    for (const index of all) busy.delete(index);
  };
  const worker = async () => {
    while (begun++ < Number(operations)) await one();
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  await disk.close();
  say({ closed: true });
}
