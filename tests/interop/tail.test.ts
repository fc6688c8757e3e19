/**
 * Disks whose length is no whole number of blocks: a copy has every byte or is refused, and others
 * are told of the end.
 */
import { readFileSync, statSync, existsSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { identifyPlans, planDrive, type ClientDrive } from '../../src/computer/drives.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { freeSocket, missing, nbdkit } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

const size = 241_059;
const whole = size - (size % 512);

function odd(): { path: string; bytes: Buffer } {
  const path = tempPath('odd');
  const bytes = Buffer.from(new Random(7).bytes(size));
  writeFileSync(path, bytes);
  return { path, bytes };
}

describe.skipIf(missing('nbdkit'))('a server that gives whole blocks of a disk of odd length', () => {
  const serve = (path: string): ReturnType<typeof nbdkit> =>
    nbdkit(freeSocket(), [
      '--filter=blocksize-policy',
      'file',
      path,
      'blocksize-minimum=512',
      'blocksize-error-policy=error',
    ]);

  it('is not copied without its end, unless the user asks for its beginning only', async () => {
    const { path, bytes } = odd();
    const { uri } = await serve(path);
    const to = tempPath('to');
    const all = await farbus('copy', uri, to, '--verify');
    expect(all.stderr).toMatch(/^farbus: [^\n]*: its last 419 bytes cannot be reached[^\n]* --size 240640 [^\n]*\n$/);
    expect(all.code).not.toBe(0);
    expect(existsSync(to)).toBe(false);
    expect((await farbus('copy', uri, to, '--offset', '512')).code).not.toBe(0);
    const part = await farbus('copy', uri, to, '--verify', '--size', String(whole));
    expect(part.stderr).toMatch(/verified/);
    expect(readFileSync(to).equals(bytes.subarray(0, whole))).toBe(true);
  });

  it('is served and attached with a warning', async () => {
    const { path } = odd();
    const { uri } = await serve(path);
    const listen = `nbd+unix:///?socket=${tempPath('s')}`;
    for (const args of [
      ['serve', uri, '--listen', listen],
      ['attach', `${uri},overlay=${tempPath('overlay')}`],
      ['serve', `${uri},offset=512`, '--listen', listen],
    ]) {
      const started = startFarbus(...args);
      await started.printed(/nbd\+unix/);
      started.child.kill('SIGTERM');
      await started.ended;
      expect(started.stderr().match(/its last 419 bytes cannot be reached/g), args.join(' ')).toHaveLength(1);
    }
  });
});

describe('a disk of odd length', () => {
  it('is copied to its last byte from a farbus server', async () => {
    const { path, bytes } = odd();
    const listen = `nbd+unix:///?socket=${tempPath('s')}`;
    const server = startFarbus('serve', path, '--listen', listen);
    const [uri] = await server.printed(/nbd\+unix\S+/);
    const to = tempPath('to');
    expect((await farbus('copy', uri, to, '--verify')).stderr).toMatch(/verified/);
    expect(readFileSync(to).equals(bytes)).toBe(true);
    expect(statSync(to).size).toBe(size);
    server.child.kill('SIGTERM');
    await server.ended;
    expect(server.stderr()).not.toMatch(/cannot be reached/);
  });

  const device = (): MemoryDevice => new MemoryDevice(size, { blockSize: 1 });
  const told = (): { lines: string[]; log: { log: (level: string, line: string) => void } } => {
    const lines: string[] = [];
    return { lines, log: { log: (_level, line) => void lines.push(line) } };
  };

  it('is an AoE target with a warning', async () => {
    const { lines, log } = told();
    const target = new AoeTarget(new Hub(), device(), { shelf: 1, slot: 0, log });
    expect(lines).toEqual([
      'AoE target 1.0: its last 419 bytes cannot be reached: they do not fill a block of 512 bytes',
    ]);
    await target.close();
  });

  it.each<[string, Partial<ClientDrive>, number]>([
    ['an NVMe disk', {}, 419],
    ['an AHCI disk', { bus: 'ahci' }, 419],
    ['an IDE disk', { bus: 'ide' }, 419],
    ['a disc', { kind: 'cdrom' }, size % 2048],
    ['a removable drive', { kind: 'removable' }, 419],
  ])('is %s of a guest with a warning', async (_name, drive, count) => {
    const { lines, log } = told();
    await identifyPlans([planDrive({ device: device(), ...drive } as ClientDrive, 0)], log);
    expect(lines.filter((line) => line.includes('cannot be reached'))).toEqual([
      expect.stringMatching(new RegExp(`^drive 0: its last ${count} bytes cannot be reached`)),
    ]);
    const none = told();
    await identifyPlans([planDrive({ device: new MemoryDevice(1 << 20), ...drive } as ClientDrive, 0)], none.log);
    expect(none.lines.filter((line) => line.includes('cannot be reached'))).toEqual([]);
  });
});
