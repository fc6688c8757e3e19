/**
 * `farbus copy` between real files, devices and NBD servers: holes, bad blocks, SIGKILL and SIGINT
 * in the middle.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { farbusServe, freeSocket, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop, mount } from '../support/root.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus, farbusFile, startFarbus } from './farbus.js';

const MiB = 1 << 20;
const journal = (path: string): string => `${path}.farbus-copy`;
const positionIn = (path: string): number =>
  existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as { position: number }).position : 0;

/** A file of `size` bytes with data at its start, middle and end. */
function sparse(size: number, name = 'from.img'): { path: string; bytes: Buffer } {
  const path = tempPath(name);
  const bytes = Buffer.alloc(size);
  for (const at of [0, size / 2, size - MiB]) bytes.set(new Random(at + 1).bytes(MiB), at);
  writeFileSync(path, '');
  truncateSync(path, size);
  for (const at of [0, size / 2, size - MiB]) {
    execFileSync('dd', [`of=${path}`, 'bs=4096', `seek=${at / 4096}`, 'conv=notrunc', 'status=none'], {
      input: bytes.subarray(at, at + MiB),
    });
  }
  return { path, bytes };
}

describe('farbus copy', () => {
  it('makes a sparse file, durable and verified', async () => {
    const { path, bytes } = sparse(64 * MiB);
    const to = tempPath('to.img');
    const { code, stdout } = await farbus('copy', path, to, '--verify', '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as Record<string, unknown>;
    expect(report).toMatchObject({ size: 64 * MiB, copied: 3 * MiB, zeroes: 61 * MiB, verified: true, start: 0 });
    expect(readFileSync(to).equals(bytes)).toBe(true);
    expect(statSync(to).blocks * 512).toBeLessThan(6 * MiB);
    expect(existsSync(journal(to))).toBe(false);
  });

  it('without a terminal says how much it has copied, in one line, with --progress too', async () => {
    const { path } = sparse(8 * MiB);
    for (const more of [[], ['--progress']]) {
      const { code, stdout, stderr } = await farbus('copy', path, tempPath('to.img'), ...more);
      expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
      expect(stderr).toMatch(/^farbus: copied 8\.0 MiB \([^)]+\) in [\d.]+ m?s, [^\n]+\/s\n$/);
    }
    const both = await farbus('copy', path, tempPath('to.img'), '--progress', '--quiet');
    expect(both).toMatchObject({ code: 2, stderr: 'farbus: give --progress or --quiet, not both\n' });
  });

  it('overwrites old data with zeroes too', async () => {
    const { path, bytes } = sparse(8 * MiB);
    const to = tempPath('to.img');
    writeFileSync(to, new Random(9).bytes(8 * MiB));
    expect((await farbus('copy', path, to, '--quiet')).code).toBe(0);
    expect(readFileSync(to).equals(bytes)).toBe(true);
  });

  it.skipIf(missing('nbdkit'))('from one NBD server to another', async () => {
    const from = await nbdkit(freeSocket(), ['sparse-random', '64M', 'seed=7', 'percent=20']);
    const path = tempPath('target.img');
    writeFileSync(path, '');
    truncateSync(path, 80 * MiB);
    const to = await farbusServe(freeSocket(), 'target.img', [path]);
    const { code, stderr } = await farbus('copy', from.uri, to.uri, '--verify');
    expect(stderr).toMatch(/larger: its last 16777216 bytes stay/);
    expect(stderr).toMatch(/copied 64\.0 MiB .*verified/);
    expect(code).toBe(0);
    expect((await farbus('copy', from.uri, tempPath('again.img'), '--verify')).code).toBe(0);
  });

  it('copies a file of odd length', async () => {
    const from = tempPath('odd');
    const bytes = new Random(4).bytes(3 * MiB + 77);
    writeFileSync(from, bytes);
    const to = tempPath('to');
    expect((await farbus('copy', from, to, '--verify')).code).toBe(0);
    expect(readFileSync(to).equals(bytes)).toBe(true);
  });

  it.skipIf(missing('nbdkit'))(
    'says at which byte a disk cannot be read, keeps the copied part, and continues later',
    async () => {
      const bad = 20 * MiB + 1024;
      const flag = tempPath('mended');
      const script = `[ -e ${flag} ] || [ $(( $4 + $3 )) -le ${bad} ] || [ $4 -ge ${bad + 512} ] || { echo EIO bad >&2; exit 1; }
dd if=/dev/zero bs=$3 count=1 2>/dev/null | tr '\\0' x`;
      const server = await nbdkit(freeSocket(), ['eval', `get_size=echo ${40 * MiB}`, `pread=${script}`]);
      const to = tempPath('to.img');
      const first = await farbus('copy', server.uri, to, '--jobs', '2', '--json');
      expect(first.code).toBe(1);
      expect(first.stderr).toMatch(
        new RegExp(`^farbus: cannot read [^\\n]* at byte ${bad}: [^\\n]*--resume[^\\n]*\\n$`),
      );
      const { position, error } = JSON.parse(first.stdout) as { position: number; error: string };
      expect(error).toContain(`at byte ${bad}`);
      expect(position).toBe(20 * MiB);
      expect(positionIn(journal(to))).toBe(position);
      writeFileSync(flag, '');
      const second = await farbus('copy', server.uri, to, '--resume', '--verify', '--json');
      expect(second.code).toBe(0);
      expect(JSON.parse(second.stdout)).toMatchObject({ start: 20 * MiB, position: 40 * MiB, verified: true });
      expect(readFileSync(to).every((byte) => byte === 0x78)).toBe(true);
    },
  );
});

describe.skipIf(missing('nbdkit'))('a copy that is interrupted', () => {
  const size = 96 * MiB;

  async function slow(): Promise<NbdPeer> {
    const from = tempPath('from.img');
    writeFileSync(from, new Random(3).bytes(size));
    return nbdkit(freeSocket(), ['--filter=delay', 'file', from, 'rdelay=300ms']);
  }

  async function begin(uri: string, to: string): Promise<ReturnType<typeof startFarbus>> {
    const started = startFarbus('copy', uri, to);
    while (positionIn(journal(to)) === 0 && started.child.exitCode === null) await sleep(20);
    return started;
  }

  it('continues after SIGKILL and ends with the same content', async () => {
    const server = await slow();
    const { uri } = server;
    const to = tempPath('to.img');
    let last = 0;
    for (let round = 0; round < 2; round++) {
      const started = round === 0 ? await begin(uri, to) : startFarbus('copy', uri, to, '--resume');
      while (positionIn(journal(to)) <= last && started.child.exitCode === null) await sleep(20);
      started.child.kill('SIGKILL');
      await started.ended;
      // Some versions of nbdkit crash when a client is killed.
      await server.kill();
      await server.start();
      expect(positionIn(journal(to))).toBeGreaterThan(last);
      last = positionIn(journal(to));
      expect(last).toBeLessThan(size);
    }
    const { code, stdout, stderr } = await farbus('copy', uri, to, '--resume', '--json');
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ start: last, position: size });
    expect(readFileSync(to).equals(new Random(3).bytes(size))).toBe(true);
    expect(existsSync(journal(to))).toBe(false);
  });

  it('says after Ctrl-C how to continue', async () => {
    const { uri } = await slow();
    const to = tempPath('to.img');
    const started = await begin(uri, to);
    started.child.kill('SIGINT');
    expect(await started.ended).toEqual({ code: 130, signal: null });
    expect(started.stderr()).toMatch(/stopped: .* are copied and durable; the same copy with --resume continues/);
    expect((await farbus('copy', uri, to, '--resume', '--verify')).code).toBe(0);
  });
});

describe('a target that is not there', () => {
  it.each([
    ['disk.img.gz', /disk.img.gz is not made: its name ends like a format that is not written; raw:PATH writes raw/],
    ['vhd:disk', /there is no format vhd, did you mean vpc:PATH\? .\/vhd:disk is a file/],
    ['qcow:2disk,rate=1M', /does not exist, and a new file takes no filters: give qcow:2disk alone/],
    ['qcow3:disk', /there is no format qcow3, did you mean qcow2:PATH/],
  ])('is not made as %s', async (to, message) => {
    const folder = tempFolder();
    const from = join(folder, 'from.img');
    writeFileSync(from, Buffer.alloc(MiB, 1));
    const { status, stderr } = spawnSync(process.execPath, [farbusFile, 'copy', from, to], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^farbus: [^\n]+\n$/);
    expect([status, readdirSync(folder)]).toEqual([2, ['from.img']]);
  });
});

describe('a journal that is not of this copy', () => {
  async function interrupted(): Promise<{ from: string; to: string }> {
    const from = tempPath('from.img');
    writeFileSync(from, new Random(3).bytes(4 * MiB));
    const to = tempPath('to.img');
    expect((await farbus('copy', from, to)).code).toBe(0);
    const copyOf = async (): Promise<void> => {
      // Write the journal that a copy leaves if it is killed after 1 MiB.
      const { sourceEnd, targetEnd, writeJournal } = await import('../../src/app/copy/journal.js');
      const { openPath } = await import('../../src/storage/open.node.js');
      const [a, b] = [await openPath(from, { readOnly: true }), await openPath(to, { readOnly: true })];
      const ends = { from: await sourceEnd(from, a), to: targetEnd(b) };
      await writeJournal(journal(to), { version: 2, ...ends, position: MiB });
      await a.close();
      await b.close();
    };
    await copyOf();
    return { from, to };
  }

  it('is used if nothing has changed', async () => {
    const { from, to } = await interrupted();
    const { stdout } = await farbus('copy', from, to, '--resume', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ start: MiB, copied: 3 * MiB });
  });

  it.each([false, true])('is found if the texts have formats and filters; the source changed: %s', async (changed) => {
    const { from, to } = await interrupted();
    if (changed) utimesSync(from, 1, 1);
    const { stdout, stderr } = await farbus('copy', `raw:${from},rate=100M`, `raw:${to}`, '--resume', '--json');
    if (changed) expect(stderr).toMatch(/source has changed since/);
    else expect(JSON.parse(stdout)).toMatchObject({ start: MiB, copied: 3 * MiB });
  });

  it.each([
    ['the source has changed', (from: string) => utimesSync(from, 1, 1), /source has changed/],
    [
      'the target was replaced',
      (_: string, to: string) => {
        const bytes = readFileSync(to);
        execFileSync('mv', [to, `${to}.old`]);
        writeFileSync(to, bytes);
      },
      /replaced/,
    ],
    ['it is damaged', (_: string, to: string) => writeFileSync(journal(to), '{"version":2'), /no journal of a copy/],
    ['it is of another time', (_: string, to: string) => writeFileSync(journal(to), '{"version":3}'), /no journal/],
    [
      'it lies about its position',
      (_: string, to: string) => {
        const text = readFileSync(journal(to), 'utf8').replace(/"position":\d+/, '"position":1e15');
        writeFileSync(journal(to), text);
      },
      /no journal/,
    ],
  ])('is refused: %s', async (_, change, message) => {
    const { from, to } = await interrupted();
    change(from, to);
    const result = await farbus('copy', from, to, '--resume');
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toMatch(/^farbus: [^\n]+\n$/);
    expect(result.code).not.toBe(0);
  });
});

describe('reports errors in one line', () => {
  const { path } = sparse(4 * MiB);
  const other = tempPath('other.img');
  writeFileSync(other, new Uint8Array(MiB));
  it.each([
    [[], 2, /FROM TO/],
    [[path], 2, /FROM TO/],
    [[path, 'a', 'b'], 2, /third/],
    [[path, path], 2, /are the same/],
    [[path, other], 1, /exists with 1048576 bytes, and the source has 4194304/],
    [[path, 'memory:1M'], 1, /too small/],
    [[path, tempFolder()], 1, /folder/],
    [[path, '/no/such/folder/x'], 1, /no such file/],
    [[path, tempPath('new'), '--resume'], 1, /nothing to resume/],
    [[path, other, '--jobs', '0'], 2, /--jobs/],
    [['/no/such', tempPath('new')], 1, /no such file/],
  ])('%j', async (args, code, message) => {
    const result = await farbus('copy', ...args);
    expect(result).toMatchObject({ stdout: '' });
    expect(result.stderr).toMatch(/^farbus: [^\n]+\n$/);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
  });

  it.each([
    ['by a link', (from: string) => [from, link(from)]],
    ['in part', (from: string) => [`${from},offset=4096`, from]],
    ['by its bytes', (from: string) => [from, `raw:${from}`]],
    ['by the file of its overlay', (from: string) => [`${from},overlay=${from}.o`, `${from}.o`]],
    [
      'by the file of its overlay, which exists',
      (from: string) => {
        writeFileSync(`${from}.o`, '');
        return [`${from},overlay=${from}.o`, `${from}.o`];
      },
    ],
  ])('a copy onto the source itself is refused, without the advice to delete it: %s', async (_, args) => {
    const from = tempPath('from.img');
    writeFileSync(from, new Uint8Array(MiB).fill(7));
    const result = await farbus('copy', ...args(from));
    expect(result).toMatchObject({ code: 1, stdout: '' });
    expect(result.stderr).toMatch(/^farbus: \S+ and \S+ are the same: give another place to copy to\n$/);
    expect(readFileSync(from).every((byte) => byte === 7)).toBe(true);
  });

  it('leaves no file if the source cannot be opened', async () => {
    const to = tempPath('to.img');
    await farbus('copy', '/no/such', to);
    expect(existsSync(to)).toBe(false);
  });
});

const noLoop = cannotLoop();
describe.skipIf(noLoop !== undefined)('block devices', () => {
  it('are written and read; one that is mounted is refused', async () => {
    const image = tempPath('loop.img');
    writeFileSync(image, '');
    truncateSync(image, 16 * MiB);
    const device = attachLoop(image);
    const from = sparse(16 * MiB);
    execFileSync('mkfs.ext4', ['-q', '-F', from.path]);
    const bytes = readFileSync(from.path);
    const env = { ...process.env, XDG_STATE_HOME: tempFolder() };
    Object.assign(process.env, env);
    expect((await farbus('copy', from.path, device, '--verify')).code).toBe(0);
    const back = tempPath('back.img');
    expect((await farbus('copy', device, back)).code).toBe(0);
    expect(readFileSync(back).equals(bytes)).toBe(true);
    const unmount = mount(device, tempFolder());
    const refused = await farbus('copy', from.path, device);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/mounted|in use/);
    unmount();
  });
});

/** A link to a file. */
function link(path: string): string {
  symlinkSync(path, `${path}.link`);
  return `${path}.link`;
}
