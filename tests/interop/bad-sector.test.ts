/**
 * One bad sector of a source stays a single bad sector behind filters that read in larger pieces: a
 * cache, an overlay, the probes.
 */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { freeSocket, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { farbus } from './farbus.js';

const bad = 65536;

/** Serves `disk` with an unreadable sector at `bad`. */
function withBadSector(disk: Buffer, bad: number): Promise<NbdPeer> {
  const path = tempPath('disk.img');
  writeFileSync(path, disk);
  return nbdkit(freeSocket(), [
    'eval',
    `get_size=echo ${disk.length}`,
    'block_size=echo 512 4096 1048576',
    `pread=[ $(( $4 + $3 )) -le ${bad} ] || [ $4 -ge ${bad + 512} ] || { echo EIO bad >&2; exit 1; }
dd if=${path} bs=512 skip=$(( $4 / 512 )) count=$(( $3 / 512 )) 2>/dev/null`,
  ]);
}

describe.skipIf(missing('nbdkit') || missing('qemu-io'))('a bad sector of a source', () => {
  /** Runs qemu-io commands on the source behind `filter`. Resolves with the exit status. */
  async function through(filter: readonly string[], ...commands: string[]): Promise<number | null> {
    const server = await withBadSector(Buffer.alloc(1 << 20, 1), bad);
    const only = commands.some((one) => one.startsWith('write')) ? [] : ['-r'];
    const words = ['qemu-io', ...only, '-f', 'raw', ...commands.flatMap((one) => ['-c', one]), '{nbd}'];
    const { code } = await farbus('attach', server.uri, ...filter, '--', ...words);
    await server.kill();
    return code;
  }

  it('stays one bad sector behind a cache', async () => {
    const cache = ['--cache', tempPath('cache')];
    expect(await through(cache, `read -P 1 130560 512`, `read -P 1 ${bad + 512} 512`)).toBe(0);
    // Also read a neighbouring sector from the same block of the cache.
    expect(await through(cache, `read -P 1 0 ${bad}`, `read -P 1 ${bad + 512} 65536`)).toBe(0);
    expect(await through(cache, `read ${bad} 512`)).toBe(1);
  });

  it('stays one bad sector behind an overlay with writes beside it', async () => {
    const overlay = ['--overlay', tempPath('overlay')];
    const beside = `write -P 2 ${bad + 512} 512`;
    expect(await through(overlay, beside, `read -P 2 ${bad + 512} 512`, `read -P 1 ${bad + 1024} 512`)).toBe(0);
    expect(await through(overlay, `read ${bad} 512`)).toBe(1);
    // The overlay file keeps this state. Data written over the bad sector is readable.
    expect(await through(overlay, `read -P 2 ${bad + 512} 512`, `write -P 3 ${bad} 512`)).toBe(0);
    expect(await through(overlay, `read -P 3 ${bad} 512`, `read -P 2 ${bad + 512} 512`)).toBe(0);
  });
});

describe.skipIf(missing('nbdkit'))('farbus info', () => {
  it('finds the partition table beside a bad sector', async () => {
    const disk = Buffer.alloc(1 << 20);
    disk.set([0, 0, 0, 0, 0x83, 0, 0, 0, 0x00, 0x01, 0, 0, 0x00, 0x02, 0, 0], 446);
    disk.set([0x55, 0xaa], 510);
    const server = await withBadSector(disk, 8192);
    const { stdout, code } = await farbus('info', server.uri);
    expect(stdout).toMatch(/0x83|Linux/);
    expect(code).toBe(0);
  });

  it('tells a disk that cannot be read in one line, with status 1', async () => {
    const server = await nbdkit(freeSocket(), ['eval', 'get_size=echo 1048576', 'pread=echo EIO bad >&2; exit 1']);
    const { stdout, code } = await farbus('info', server.uri);
    expect(stdout).toMatch(/^content   unknown$/m);
    expect(stdout.match(/^problem .*$/gm)).toEqual([
      expect.stringMatching(/^problem   the device cannot be read at byte 0 and \d+ other places$/),
    ]);
    expect(code).toBe(1);
  });
});
