/**
 * Power cuts of this computer, and the files that Farbus keeps: overlay, cache, journal of a copy,
 * snapshot. The real code runs once under strace. Then the recorded calls are replayed up to many
 * moments; at each a power cut loses, tears and reorders the writes that were not synced. The
 * remaining files are opened as the command line opens them.
 *
 * `npm test` looks at some hundred states, `npm run test:all` at thousands.
 */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { silent } from '../../src/base/log.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { readSnapshot } from '../../src/machine/snapshot-file.node.js';
import { SnapshotError } from '../../src/machine/snapshot.js';
import { Random } from '../../src/conformance/random.js';
import { readBytes } from '../../src/conformance/subject.js';
import { History, stamped, stampOf, type Change as BlockChange } from '../support/block-history.js';
import { CrashFolder } from '../support/crash/folder.js';
import { record, traceOf, type Change, type Recording } from '../support/crash/record.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { farbus, farbusFile } from './farbus.js';

const many = process.env['FARBUS_TEST_ALL'] !== undefined;
const block = 512;
// The long form takes some minutes.
if (many) vi.setConfig({ testTimeout: 1_800_000 });
/** A user id without any files. */
const nobody = 65534;
const load = (name: string): string => join(import.meta.dirname, '../support/crash', name);

/** Makes a folder that is recorded, and one next to it that is not. */
function folders(): { here: string; base: string } {
  const root = realpathSync(tempFolder());
  const here = join(root, 'here');
  mkdirSync(here);
  return { here, base: join(root, 'base.img') };
}

function baseImage(blocks: number): Uint8Array {
  const bytes = new Uint8Array(blocks * block);
  for (let index = 0; index < blocks; index++) bytes.set(stamped(1_000_000 + index), index * block);
  return bytes;
}

/**
 * Puts the files that a power cut left into the folder. Existing files keep their inodes, by which
 * disks are recognised.
 */
function put(folder: string, files: ReadonlyMap<string, Uint8Array>): void {
  for (const name of readdirSync(folder)) if (!files.has(name)) rmSync(join(folder, name));
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes, { mode: 0o600 });
}

/**
 * Runs a load and calls `look` for `count` moments of it, each with the files that a power cut
 * would leave.
 */
async function replay(
  { events, status, stderr }: Recording,
  disk: CrashFolder,
  random: Random,
  count: number,
  onMark: (mark: never) => void,
  look: (files: Map<string, Buffer>, what: string) => Promise<void>,
): Promise<void> {
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(events.length).toBeGreaterThan(20);
  // A mistake in the order shows for a few calls only. So two thirds of the moments are near calls
  // that order others, half of these near headers.
  const near = (test: (change: Change) => boolean): number[] =>
    events.flatMap(({ change }, index) => (test(change) ? [index] : []));
  const orders = near(({ kind }) => !['write', 'zero', 'mark'].includes(kind));
  const headers = near((change) => change.kind === 'write' && change.at === 0 && change.name !== 'source.img');
  const moment = (): number => {
    const [places, from] = random.pick([
      [[], 0],
      [orders, -4],
      [headers, -1],
    ] as const);
    if (places.length === 0) return random.below(events.length);
    return Math.min(events.length - 1, Math.max(0, random.pick(places) + from + random.below(6)));
  };
  const moments = Array.from({ length: count }, moment).sort((a, b) => a - b);
  for (const [index, event] of events.entries()) {
    disk.apply(event);
    if (event.change.kind === 'mark' && event.ended) onMark(event.change.value as never);
    while (moments[0] === index) {
      moments.shift();
      const { mode, files } = disk.crash(random);
      await look(files, `after call ${index} of ${events.length}, kept: ${mode}`);
    }
  }
}

interface LoadMark {
  readonly begin?: number;
  readonly answered?: number;
  readonly flush?: boolean;
  readonly at: number;
  readonly stamps: readonly (number | 'any')[];
  readonly fua: boolean;
}

/** Follows the marks of load-filters.mjs. */
class LoadHistory {
  readonly history: History;
  readonly #answers = new Map<number, () => void>();

  constructor(stamps: readonly number[]) {
    this.history = new History(stamps);
  }

  mark({ begin, answered, flush, at, stamps, fua }: LoadMark): void {
    const { history } = this;
    if (answered !== undefined) this.#answers.get(answered)!();
    if (begin === undefined) return;
    if (flush) {
      const point = history.flushPoint();
      this.#answers.set(begin, () => history.flushed(point));
      return;
    }
    const changes = history.begin(at, stamps);
    this.#answers.set(begin, () => {
      for (const change of changes) change.acknowledged = true;
      if (!fua) return;
      const point = new Array<BlockChange | undefined>(history.blocks.length).fill(undefined);
      history.flushed(point.map((_, index) => changes[index - at]));
    });
  }
}

async function stampsOf(drive: string, blocks: number): Promise<number[]> {
  const disk = await openSource(parseSource(drive), { log: silent });
  try {
    const bytes = await readBytes(disk, 0, blocks * block);
    return Array.from({ length: blocks }, (_, index) => stampOf(bytes.subarray(index * block, (index + 1) * block)));
  } finally {
    await disk.close();
  }
}

describe.skipIf(missing('strace'))('After a power cut', () => {
  it('an overlay reads as at the last answered flush, or newer, also after a second one', async () => {
    const blocks = 1024 + 3;
    for (let seed = 1; seed <= (many ? 6 : 1); seed++) {
      const { here, base } = folders();
      writeFileSync(base, baseImage(blocks));
      const drive = `raw:${base},overlay=${join(here, 'o.ov')}`;
      const random = new Random(seed);
      let start = new Map<string, Uint8Array>();
      let stamps = Array.from({ length: blocks }, (_, index) => 1_000_000 + index);
      // Each generation begins with the files that a power cut left of the one before.
      for (let generation = 0; generation < (many ? 4 : 2); generation++) {
        const marks = new LoadHistory(stamps);
        put(here, start);
        const env = random.chance(0.3) ? { FARBUS_NO_KOFFI: '1' } : {};
        const recording = record(here, [load('load-filters.mjs'), drive, String(10 * seed + generation), '150', '2'], {
          env,
        });
        const left: { files: Map<string, Buffer>; stamps: number[] }[] = [];
        const look = async (files: Map<string, Buffer>, what: string): Promise<void> => {
          put(here, files);
          const found = await stampsOf(drive, blocks);
          for (const [index, stamp] of found.entries()) {
            marks.history.check(index, stamp, `seed ${seed}, generation ${generation}, ${what}`);
          }
          expect(readdirSync(here)).toEqual(expect.arrayContaining(['o.ov']));
          left.push({ files, stamps: found });
        };
        const disk = new CrashFolder(new Map([...start, ['marks', new Uint8Array(0)]]));
        await replay(recording, disk, random, many ? 120 : 90, (mark) => marks.mark(mark), look);
        const next = random.pick(left);
        [start, stamps] = [next.files, next.stamps];
      }
    }
  });

  it.skipIf(process.getuid?.() !== 0)('so does one in a folder in which its user may make no file', async () => {
    const blocks = 259;
    for (let seed = 1; seed <= (many ? 6 : 1); seed++) {
      const { here, base } = folders();
      writeFileSync(base, baseImage(blocks));
      chmodSync(dirname(here), 0o755);
      for (const file of [join(here, 'o.ov'), join(here, 'marks'), traceOf(here)]) {
        writeFileSync(file, '');
        chownSync(file, nobody, nobody);
      }
      const before = new Map(['o.ov', 'marks'].map((name) => [name, new Uint8Array(0)]));
      const drive = `raw:${base},overlay=${join(here, 'o.ov')}`;
      const recording = record(here, [load('load-filters.mjs'), drive, String(500 + seed), '12', '1'], { uid: nobody });
      const marks = new LoadHistory(Array.from({ length: blocks }, (_, index) => 1_000_000 + index));
      const look = async (files: Map<string, Buffer>, what: string): Promise<void> => {
        put(here, files);
        // The first write's length is durable, its bytes are not. Eight zeroes may be another
        // program's file, so the file is refused.
        if (files.get('o.ov')!.equals(Buffer.alloc(8))) {
          return expect(stampsOf(drive, blocks), what).rejects.toThrow('is not an overlay');
        }
        for (const [index, stamp] of (await stampsOf(drive, blocks)).entries()) {
          marks.history.check(index, stamp, `seed ${seed}, ${what}`);
        }
      };
      await replay(
        recording,
        new CrashFolder(before),
        new Random(seed),
        many ? 150 : 60,
        (mark) => marks.mark(mark),
        look,
      );
    }
  });

  it("a kept cache gives its source's content, whichever part of the cache is lost", async () => {
    const blocks = 640;
    for (let seed = 1; seed <= (many ? 8 : 1); seed++) {
      const { here } = folders();
      const image = baseImage(blocks);
      const source = join(here, 'source.img');
      writeFileSync(source, image);
      // The cache is smaller than its source, so that it has to evict blocks.
      const drive = `raw:${source},cache=${join(here, 'c')},cache-size=256K,cache-keep`;
      const recording = record(here, [load('load-filters.mjs'), drive, String(100 + seed), '60', '3']);
      const random = new Random(1000 + seed);
      // The source is on another disk: data written there stays.
      const disk = new CrashFolder(new Map([['source.img', image]]), ['source.img']);
      const look = async (files: Map<string, Buffer>, what: string): Promise<void> => {
        put(here, files);
        const found = await stampsOf(drive, blocks);
        const bytes = readFileSync(source);
        for (const [index, stamp] of found.entries()) {
          expect(stamp, `seed ${seed}, ${what}: block ${index}`).toBe(bytes.readUInt32LE(index * block));
        }
      };
      await replay(recording, disk, random, many ? 200 : 90, () => undefined, look);
    }
  });

  it('a copy is completed by --resume, or --resume says that it cannot', async () => {
    for (let seed = 1; seed <= (many ? 4 : 1); seed++) {
      const { here, base } = folders();
      const content = new Random(seed).bytes(5 << 20);
      writeFileSync(base, content);
      const target = join(here, 'target.img');
      writeFileSync(target, new Random(77).bytes(content.length));
      const before = new Map([['target.img', readFileSync(target)]]);
      // The rate limit makes the copy last for several journal entries, one per second.
      const args = ['copy', `raw:${base}`, target, '--rate', '2M', '--quiet'];
      const recording = record(here, [farbusFile, ...args], {
        env: { FARBUS_NO_KOFFI: seed % 2 === 0 ? '1' : '' },
      });
      let [resumed, refused] = [0, 0];
      const look = async (files: Map<string, Buffer>, what: string): Promise<void> => {
        put(here, files);
        const { code, stderr } = await farbus('copy', `raw:${base}`, target, '--resume', '--quiet');
        if (code !== 0) {
          expect(stderr, what).toMatch(/there is nothing to resume|is no journal of a copy/);
          refused++;
          return;
        }
        resumed++;
        expect(Buffer.compare(readFileSync(target), content), `seed ${seed}, ${what}`).toBe(0);
      };
      const disk = new CrashFolder(before);
      await replay(recording, disk, new Random(seed), many ? 30 : 8, () => undefined, look);
      expect(resumed, `${refused} were refused`).toBeGreaterThan(0);
    }
  });

  it('a snapshot is the old or the new one, and absent before the first is complete', async () => {
    const { here } = folders();
    const path = join(here, 'x.snap');
    const recording = record(here, [load('load-snapshot.mjs'), path, '3']);
    let [saving, saved] = [0, 0];
    const onMark = (mark: { saving?: number; saved?: number }): void => {
      saving = mark.saving ?? saving;
      saved = mark.saved ?? saved;
    };
    const look = async (files: Map<string, Buffer>, what: string): Promise<void> => {
      put(here, files);
      const found = await readSnapshot(path).catch((error: unknown) => {
        expect(error, what).not.toBeInstanceOf(SnapshotError);
        return undefined;
      });
      const number = Number(found?.key ?? 0);
      expect([saved, saving], what).toContain(number);
      if (found) expect(found.engine[1], what).toBe(number);
    };
    await replay(recording, new CrashFolder(new Map()), new Random(5), many ? 2000 : 200, onMark, look);
    expect(saved).toBe(3);
  });

  it('a folder that was made for a file exists if the file does', () => {
    const { here } = folders();
    const { events } = record(here, [load('load-folder.mjs'), join(here, 'new', 'file')]);
    const kinds = events.flatMap(({ change, ended }) => (ended ? [change.kind] : []));
    // The new folder's name becomes durable first, then that of the file in it.
    expect(kinds).toEqual(['mark', 'syncFolder', 'sync', 'mark']);
  });
});
