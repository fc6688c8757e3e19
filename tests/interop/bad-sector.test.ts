/** One bad sector of a source stays one behind what reads in larger pieces: a cache, an overlay, the probes. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { freeSocket, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { farbus } from './farbus.js';

const bad = 65536;

/** `disk` on a server, with a sector at `bad` that cannot be read. */
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
  /** qemu-io's exit status for one command on the source behind `filter`. */
  async function through(filter: readonly string[], ...commands: string[]): Promise<number | null> {
    const server = await withBadSector(Buffer.alloc(1 << 20, 1), bad);
    const only = commands.some((one) => one.startsWith('write')) ? [] : ['-r'];
    const words = ['qemu-io', ...only, '-f', 'raw', ...commands.flatMap((one) => ['-c', one]), '{nbd}'];
    const { code } = await farbus('attach', server.uri, ...filter, '--', ...words);
    await server.kill();
    return code;
  }

  it('is one behind a cache', async () => {
    const cache = ['--cache', tempPath('cache')];
    expect(await through(cache, `read -P 1 130560 512`, `read -P 1 ${bad + 512} 512`)).toBe(0);
    // With a neighbour that is read from the same block of the cache.
    expect(await through(cache, `read -P 1 0 ${bad}`, `read -P 1 ${bad + 512} 65536`)).toBe(0);
    expect(await through(cache, `read ${bad} 512`)).toBe(1);
  });

  it('is one behind an overlay that is written beside it', async () => {
    const overlay = ['--overlay', tempPath('overlay')];
    const beside = `write -P 2 ${bad + 512} 512`;
    expect(await through(overlay, beside, `read -P 2 ${bad + 512} 512`, `read -P 1 ${bad + 1024} 512`)).toBe(0);
    expect(await through(overlay, `read ${bad} 512`)).toBe(1);
    // The overlay file keeps it so; and what is written over the bad sector is there.
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
});
