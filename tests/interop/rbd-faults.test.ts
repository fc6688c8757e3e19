/**
 * A Ceph that fails while an image is in use: away, full, without an OSD; an image that is deleted
 * or shortened; two gateways that want one image at once.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBytes } from '../../src/conformance/subject.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { openRbd, type RbdDisk } from '../../src/storage/rbd/device.node.js';
import { Ceph } from '../support/ceph.js';
import { sleep } from '../../src/base/event-loop.js';
import { tempFolder } from '../support/temp.js';
import { VerifiedLoad } from '../support/verified-load.js';
import { farbus, startFarbus } from './farbus.js';

/** How long the cluster is away, in ms. */
const awayMs = [undefined, 'rest'].includes(process.env['FARBUS_TEST_ALL']) ? 3000 : 30_000;

const block = (value: number): Buffer => Buffer.alloc(4096, value);
const kindOf = (request: Promise<unknown>): Promise<unknown> =>
  request.then(
    () => 'done',
    (error: { kind?: string }) => error.kind,
  );

describe('a Ceph that fails', () => {
  let ceph: Ceph;
  const source = (name: string, more = ''): string => `rbd:rbd/${name}?conf=${ceph.conf}${more}`;
  const create = (name: string, size = '16M'): void => void ceph.run('rbd', 'create', name, '--size', size);
  const openGateway = (name: string): Promise<RbdDisk> => openRbd(source(name, '&standby=1'), { admits: true });

  beforeAll(async () => {
    ceph = await Ceph.start();
  });
  afterAll(() => ceph?.stop());

  it(`away for ${awayMs / 1000} s under a served load: requests wait, and none fails`, async () => {
    create('away');
    const server = startFarbus('serve', `disk=${source('away')}`, '--listen', 'nbd://127.0.0.1:0');
    const [, uri] = await server.printed(/(nbd:\/\/\S+\/disk)/);
    const device = await openNbd(uri!);
    const load = new VerifiedLoad(device);
    await load.go(50);
    const daemons = ['mon.a', 'osd.0'].map((name) => ceph.pid(name));
    for (const pid of daemons) process.kill(pid, 'SIGSTOP');
    try {
      await sleep(awayMs);
    } finally {
      for (const pid of daemons) process.kill(pid, 'SIGCONT');
    }
    await load.go(50);
    await load.stop();
    await device.flush();
    expect(Buffer.compare(await readBytes(device, 0, load.model.length), load.model)).toBe(0);
    await device.close();
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
  });

  it('lets two gateways take one image from one another, but never hold it both', async () => {
    create('both');
    const all = await Promise.all([openGateway('both'), openGateway('both')]);
    for (let round = 0; round < 10; round++) {
      const takes = await Promise.allSettled(all.map((one) => one.writerLock.takeOver!.take(true)));
      expect(takes.some(({ status }) => status === 'fulfilled')).toBe(true);
      // Both try to write, each its own data: one at most may.
      const written = await Promise.all(all.map((one, at) => kindOf(one.write(0, block(10 * round + at)))));
      const winners = written.flatMap((kind, at) => (kind === 'done' ? [at] : []));
      const ready = await Promise.all(all.map((one) => one.writerLock.takeOver!.ready(true)));
      expect(ready.filter(Boolean).length).toBeLessThanOrEqual(1);
      const [winner] = winners.filter((at) => ready[at]);
      if (winner === undefined) continue;
      expect(written[1 - winner]).not.toBe('done');
      expect(Buffer.compare(await readBytes(all[winner]!, 0, 4096), block(10 * round + winner))).toBe(0);
      const locks = JSON.parse(ceph.run('rbd', 'lock', 'ls', 'both', '--format', 'json')) as unknown[];
      expect(locks).toHaveLength(1);
    }
    await Promise.all(all.map((one) => one.close()));
  });

  it('does not delete an image that is written', async () => {
    create('deleted');
    const disk = await openRbd(source('deleted'));
    await disk.write(0, block(1));
    expect(() => ceph.run('rbd', 'rm', 'deleted', '--no-progress')).toThrow();
    await disk.write(4096, block(2));
    await disk.flush();
    expect(Buffer.compare(await readBytes(disk, 0, 4096), block(1))).toBe(0);
    await disk.close();
  });

  it('that shortens an image under its writer fails requests beyond the end, and no others', async () => {
    create('shorter');
    const disk = await openRbd(source('shorter'));
    await disk.write(12 << 20, block(1));
    ceph.run('rbd', 'resize', 'shorter', '--size', '8M', '--allow-shrink', '--no-progress');
    expect(await kindOf(disk.write(12 << 20, block(2)))).not.toBe('done');
    expect(await kindOf(readBytes(disk, 12 << 20, 4096))).toBe('io');
    await disk.write(0, block(3));
    await disk.flush();
    expect(Buffer.compare(await readBytes(disk, 0, 4096), block(3))).toBe(0);
    await disk.close();
  });

  it('that has no space fails the write in time, and takes it again when there is space', async () => {
    create('full');
    const disk = await openRbd(source('full'), { reconnectSeconds: 5 });
    await disk.write(0, block(1));
    await disk.flush();
    ceph.run('ceph', 'osd', 'pool', 'set-quota', 'rbd', 'max_bytes', '4096');
    await expect
      .poll(() => ceph.run('ceph', 'osd', 'pool', 'ls', 'detail'), { timeout: 60_000, interval: 200 })
      .toMatch(/full/);
    const kind = await kindOf(disk.write(8 << 20, block(2)).then(() => disk.flush()));
    expect(['no-space', 'unreachable']).toContain(kind);
    await disk.close();
    ceph.run('ceph', 'osd', 'pool', 'set-quota', 'rbd', 'max_bytes', '0');
    await expect
      .poll(() => ceph.run('ceph', 'osd', 'pool', 'ls', 'detail'), { timeout: 60_000, interval: 200 })
      .not.toMatch(/full/);
    const again = await openRbd(source('full'));
    expect(Buffer.compare(await readBytes(again, 0, 4096), block(1))).toBe(0);
    await again.write(8 << 20, block(2));
    await again.close();
  });

  // The last one: the OSD's memory is the disk.
  it('without its OSD fails requests after the reconnect time, and the image closes', async () => {
    create('headless');
    const disk = await openRbd(source('headless'), { reconnectSeconds: 2 });
    await disk.write(0, block(1));
    await disk.flush();
    process.kill(ceph.pid('osd.0'), 'SIGKILL');
    expect(await kindOf(readBytes(disk, 0, 4096))).toBe('unreachable');
    expect(await kindOf(disk.write(0, block(2), { fua: true }))).toBe('unreachable');
    await disk.close();
  });
});

describe('a Ceph whose clients prove who they are', () => {
  let ceph: Ceph;
  const source = (keyring: string, id: string): string => `rbd:rbd/kept?conf=${ceph.conf}&keyring=${keyring}&id=${id}`;

  beforeAll(async () => {
    ceph = await Ceph.start({ keys: true });
    ceph.run('rbd', 'create', 'kept', '--size', '4M');
  });
  afterAll(() => ceph?.stop());

  it('refuses a wrong key in one line, which has no key in it', async () => {
    const keyring = join(tempFolder(), 'keyring');
    const key = 'AQBLd2BjAAAAABAAq2Z0JQm5Vb2Xo0nU0o4Xww==';
    writeFileSync(keyring, `[client.admin]\n\tkey = ${key}\n`);
    const { code, stderr } = await farbus('info', source(keyring, 'admin'), '--reconnect', '2');
    expect(code).toBe(1);
    expect(stderr).toMatch(/permission denied: check id= and keyring=/);
    expect(stderr).not.toContain(key);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  it('lets a user who may only read do that, and nothing else', async () => {
    const keyring = ceph.addUser('client.reader', 'mon', 'profile rbd-read-only', 'osd', 'profile rbd-read-only');
    const reader = await openRbd(source(keyring, 'reader'), { readOnly: true });
    expect(Buffer.compare(await readBytes(reader, 0, 4096), block(0))).toBe(0);
    await reader.close();
    await expect(openRbd(source(keyring, 'reader'))).rejects.toThrow(/permission denied/);
  });

  it('lets a user with the profile rbd take an image over', async () => {
    const keyring = ceph.addUser('client.writer', 'mon', 'profile rbd', 'osd', 'profile rbd pool=rbd');
    const all = [];
    for (let at = 0; at < 2; at++) {
      const one = await openRbd(`${source(keyring, 'writer')}&standby=1`, { admits: true });
      await one.writerLock.takeOver!.take(true);
      all.push(one);
    }
    const [first, second] = all as [RbdDisk, RbdDisk];
    await second.write(0, block(2));
    expect(await kindOf(first.write(0, block(1)))).toBe('closed');
    expect(Buffer.compare(await readBytes(second, 0, 4096), block(2))).toBe(0);
    await Promise.all(all.map((one) => one.close()));
  });
});
