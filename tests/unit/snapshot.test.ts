/**
 * Snapshot files: any damage is detected, the reaction is the one that a user expects, and other
 * files are not touched.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { startGuest, type Guest } from '../../src/app/computer/start.js';
import type { Computer } from '../../src/computer/computer.js';
import { readSnapshot, writeSnapshot } from '../../src/machine/snapshot-file.node.js';
import { isSnapshot, SnapshotError, type Snapshot } from '../../src/machine/snapshot.js';
import { Random } from '../../src/conformance/random.js';
import { tempFolder } from '../support/temp.js';

const flips = process.env['FARBUS_TEST_ALL'] ? 4000 : 150;
const fixedSize = 56;
const snapshot: Snapshot = {
  key: 'k',
  drives: [{ size: 1, blockSize: 1, readOnly: false, disk: 'size=1', shown: { serial: 's', model: 'm', uuid: 'u' } }],
  devices: [{ a: [1, 2, 3] }],
  engine: new Random(7).bytes(20_000).map((byte) => byte & 0x1f),
};

let folder: string;
let path: string;
let good: Buffer;
const put = (bytes: Uint8Array | string, name = 'x.snap'): string => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const faultOf = async (bytes: Uint8Array): Promise<string> => {
  const error = await readSnapshot(put(bytes)).catch((caught: unknown) => caught);
  if (!(error instanceof SnapshotError)) expect.fail(`it is not refused: ${String(error)}`);
  return error.fault;
};

beforeAll(async () => {
  folder = tempFolder();
  path = join(folder, 'good.snap');
  await writeSnapshot(path, snapshot);
  good = readFileSync(path);
});

describe('A snapshot file', () => {
  it('is read back unchanged, and only its owner has access', async () => {
    const { engine, ...rest } = await readSnapshot(path);
    expect(Buffer.compare(engine, snapshot.engine)).toBe(0);
    expect({ ...rest, engine: snapshot.engine }).toEqual(snapshot);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('is refused after any flip of a bit', async () => {
    const random = new Random(12);
    const bits = Array.from({ length: fixedSize * 8 }, (_, bit) => bit);
    for (let i = 0; i < flips; i++) bits.push(random.below(good.length * 8));
    for (const bit of bits) {
      const bytes = Uint8Array.from(good);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(await faultOf(bytes), `bit ${bit}`).toBe(bit < 64 ? 'foreign' : 'damaged');
    }
  });

  it('is refused as damaged if it is cut off anywhere, empty, longer or of another version', async () => {
    const random = new Random(13);
    const lengths = [...Array.from({ length: fixedSize + 1 }, (_, i) => i), good.length - 1];
    for (let i = 0; i < 30; i++) lengths.push(random.below(good.length));
    for (const length of lengths) expect(await faultOf(good.subarray(0, length)), `${length}`).toBe('damaged');
    expect(await faultOf(Buffer.concat([good, Buffer.alloc(1)]))).toBe('damaged');
    for (const version of [0, 3, 5]) {
      const bytes = Uint8Array.from(good);
      new DataView(bytes.buffer).setUint32(8, version);
      expect(await faultOf(bytes)).toBe('damaged');
    }
    expect(await faultOf(new Uint8Array(4096))).toBe('foreign');
  });

  it('replaces an older one, and no file that Farbus did not make', async () => {
    await writeSnapshot(put(good.subarray(0, 100), 'old.snap'), snapshot);
    expect(isSnapshot(readFileSync(join(folder, 'old.snap')))).toBe(true);
    const precious = put('precious', 'precious');
    await expect(writeSnapshot(precious, snapshot)).rejects.toThrow('not a snapshot');
    const link = join(folder, 'link');
    symlinkSync('precious', link);
    await expect(writeSnapshot(link, snapshot)).rejects.toThrow('not a snapshot');
    expect(readFileSync(precious, 'utf8')).toBe('precious');
    spawnSync('mkfifo', [join(folder, 'fifo')]);
    for (const other of [join(folder, 'fifo'), folder, '/dev/null']) {
      await expect(writeSnapshot(other, snapshot)).rejects.toThrow('it is no file');
      await expect(readSnapshot(other)).rejects.toThrow('it is no file');
    }
    expect(readdirSync(folder).filter((name) => /tmp|new|farbus-/.test(name))).toEqual([]);
  });
});

/** A computer that boots immediately and resumes from any of its own snapshots. */
function fakeComputer() {
  const calls: string[] = [];
  let saved = '';
  const computer = {
    adapter: undefined,
    console: { waitFor: async () => undefined },
    boot: () => void calls.push('boot'),
    save: async (key: string) => ({ ...snapshot, key: (saved = key) }),
    restore: async ({ key }: Snapshot, wanted: string) => {
      if (key !== wanted) throw new SnapshotError('it is of another kernel, command line or version');
      calls.push('restore');
    },
  } as unknown as Computer;
  return { computer, calls, key: () => saved };
}

describe('A computer with a snapshot', () => {
  const guest: Guest = { image: { commandLine: '' } as never, id: 'id', version: 'a guest', readyText: 'ready' };
  const start = async (file: string, renew = false) => {
    const { computer, calls } = fakeComputer();
    const warnings: string[] = [];
    const log = { log: (_: string, text: string) => void warnings.push(text) };
    const { from } = await startGuest(computer, guest, file, 1 << 20, { log, renew });
    return { from, calls, warnings };
  };

  it('boots and saves it, and continues from it the next time', async () => {
    const file = join(folder, 'fresh.snap');
    expect(await start(file)).toEqual({ from: 'boot', calls: ['boot'], warnings: [] });
    expect(await start(file)).toEqual({ from: 'snapshot', calls: ['restore'], warnings: [] });
  });

  it('makes no folder for it, and says so before it boots', async () => {
    const file = join(folder, 'none', 'fresh.snap');
    await expect(start(file)).rejects.toThrow(
      `there is no folder ${join(folder, 'none')}: make it, or give another path`,
    );
    expect(existsSync(join(folder, 'none'))).toBe(false);
  });

  it('boots and saves a new one, with a message, if it is empty, cut off, damaged or of an older version', async () => {
    const old = new Uint8Array(64);
    old.set(good.subarray(0, 8));
    old[11] = 3;
    const flipped = Uint8Array.from(good);
    flipped[good.length - 9]! ^= 4;
    for (const bytes of [new Uint8Array(0), good.subarray(0, 5), good.subarray(0, 1000), flipped, old]) {
      const file = put(bytes);
      const first = await start(file);
      expect(first).toMatchObject({ from: 'boot', calls: ['boot'] });
      expect(first.warnings).toEqual([expect.stringMatching(/snapshot cannot be used: it .*; the guest boots/)]);
      expect(await start(file)).toEqual({ from: 'snapshot', calls: ['restore'], warnings: [] });
    }
  });

  it('is refused, and the file stays, if the file is of another kind or of another computer', async () => {
    for (const [content, advice] of [
      [Buffer.from('precious'), 'give another path'],
      [new Uint8Array(5000), 'give another path'],
      [good, 'delete the file to boot and save a new one'],
    ] as const) {
      const file = put(content);
      await expect(start(file)).rejects.toThrow(advice);
      expect(Buffer.compare(readFileSync(file), content)).toBe(0);
    }
    await expect(start(put('precious'), true)).rejects.toThrow('give another path');
    expect((await start(put(good), true)).from).toBe('boot');
  });
});
