/**
 * Sources that become shorter while they are in use: every reader gets an error behind the new end,
 * and no client, block status or copy ever gets zeroes for bytes that are gone.
 */
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { farbusServe, freeSocket, missing, nbdkit } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { execute, farbus } from './farbus.js';

const MiB = 1 << 20;
const size = 8 * MiB;
const end = 2 * MiB;

function image(): { path: string; bytes: Buffer } {
  const path = tempPath('disk.img');
  const bytes = Buffer.from(new Random(5).bytes(size));
  writeFileSync(path, bytes);
  return { path, bytes };
}

describe('a file that becomes shorter while farbus serves it', () => {
  it.skipIf(missing('nbdinfo'))('is neither mapped nor copied as zeroes behind its new end', async () => {
    const { path } = image();
    const { uri } = await farbusServe(freeSocket(), 'disk.img', [path]);
    truncateSync(path, end);
    const map = await execute('nbdinfo', ['--map', uri]);
    expect(map.code).not.toBe(0);
    expect(map.stdout).not.toMatch(/zero/);
    expect((await execute('nbdcopy', [uri, tempPath('to.img')])).code).not.toBe(0);
    const copy = await farbus('copy', uri, tempPath('to.img'), '--verify');
    expect(copy.code).toBe(1);
    expect(copy.stderr).toMatch(/^farbus: cannot read .* shorter than when it was opened.*\n$/);
    expect(copy.stderr).not.toMatch(/verified/);
  });

  it.skipIf(missing('qemu-io'))('does not become long again by a write behind its new end', async () => {
    const { path, bytes } = image();
    const { uri } = await farbusServe(freeSocket(), 'disk.img', [path]);
    truncateSync(path, end);
    const attempt = (...commands: string[]): ReturnType<typeof execute> =>
      execute('qemu-io', ['-f', 'raw', ...commands.flatMap((one) => ['-c', one]), uri]);
    for (const command of ['write -P 7 6M 4k', 'write -P 7 8188k 4k', 'write -z 6M 64k', 'discard 6M 64k']) {
      const { code, stdout, stderr } = await attempt(command);
      expect(`${stdout}${stderr}`, command).toMatch(/Input\/output error/);
      expect(code, command).not.toBe(0);
    }
    expect(statSync(path).size).toBe(end);
    // A flush cannot call durable what was cut off; and what is still there stays as it was.
    expect((await attempt('flush')).code).not.toBe(0);
    expect(readFileSync(path).equals(bytes.subarray(0, end))).toBe(true);
  });
});

describe.skipIf(missing('nbdkit'))('a server that reports a hole behind the end of what it has', () => {
  it('is not copied as zeroes', async () => {
    // So do servers that ask lseek(2) about a file that has become shorter.
    const server = await nbdkit(freeSocket(), [
      'eval',
      `get_size=echo ${size}`,
      'can_extents=exit 0',
      `extents=echo 0 ${end}; echo ${end} ${size - end} hole,zero`,
      `pread=[ $(( $4 + $3 )) -le ${end} ] || { echo EIO gone >&2; exit 1; }
head -c $3 /dev/zero | tr '\\0' x`,
    ]);
    for (const [bad, part] of [
      [end, ['--jobs', '1']],
      [0, ['--offset', '4M', '--size', '4M', '--jobs', '1']],
    ] as const) {
      const { code, stderr } = await farbus('copy', server.uri, tempPath('to.img'), '--verify', ...part);
      expect(code).toBe(1);
      expect(stderr).toMatch(new RegExp(`cannot read .* at byte ${bad}: `));
    }
  });
});
