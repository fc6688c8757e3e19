/** Images of a Ceph cluster as disks (src/storage/rbd), on a real Ceph on loopback. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BlockError } from '../../src/block/errors.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { openRbd } from '../../src/storage/rbd/device.node.js';
import { AdminOpcode, Feature } from '../../src/spec/nvme.js';
import { conformance } from '../conformance/suite.js';
import { Ceph } from '../support/ceph.js';
import { NvmeDriver } from '../support/nvme-driver.js';
import { tempFolder } from '../support/temp.js';
import { execute, farbus, farbusFile, startFarbus } from './farbus.js';

describe('an image of a Ceph cluster', () => {
  const folder = tempFolder();
  let ceph: Ceph;
  const source = (name: string): string => `rbd:rbd/${name}?conf=${ceph.conf}`;
  const create = (name: string, size: string): void => void ceph.run('rbd', 'create', name, '--size', size);

  beforeAll(async () => {
    ceph = await Ceph.start();
    create('suite', '4M');
  });
  afterAll(() => ceph?.stop());

  conformance('an image of Ceph', async () => ({ device: await openRbd(source('suite')) }), {
    openReadOnly: async () => ({ device: await openRbd(source('suite'), { readOnly: true }) }),
    persistent: true,
  });

  it('is copied in both directions, sparse', async () => {
    create('copied', '64M');
    const [from, to, out] = ['from.img', 'to.img', 'export.img'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    const content = Buffer.alloc(64 << 20);
    randomBytes(3 << 20).copy(content, 20 << 20);
    writeFileSync(from, content);
    const written = await farbus('copy', from, source('copied'), '--verify', '--quiet');
    expect([written.code, written.stderr]).toEqual([0, '']);
    ceph.run('rbd', 'export', 'copied', out, '--no-progress');
    expect(readFileSync(out).equals(content)).toBe(true);
    expect(Number(JSON.parse(ceph.run('rbd', 'du', 'copied', '--format', 'json')).images[0].used_size)).toBe(4 << 20);
    const read = await farbus('copy', source('copied'), to, '--json');
    expect(read.code, read.stderr).toBe(0);
    expect(readFileSync(to).equals(content)).toBe(true);
  });

  it('is served to other programs', async () => {
    create('served', '16M');
    const server = startFarbus('serve', `disk=${source('served')}`, '--listen', 'nbd://127.0.0.1:0');
    const [, uri] = await server.printed(/(nbd:\/\/\S+\/disk)/);
    const data = join(folder, 'data');
    writeFileSync(data, randomBytes(16 << 20));
    expect(await execute('nbdcopy', [data, uri!])).toMatchObject({ code: 0 });
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
    ceph.run('rbd', 'export', 'served', join(folder, 'served.img'), '--no-progress');
    expect(readFileSync(join(folder, 'served.img')).equals(readFileSync(data))).toBe(true);
  });

  it('has one writer; others may read', async () => {
    create('held', '4M');
    const first = await openRbd(source('held'));
    await first.write(0, Buffer.alloc(4096, 1));
    await first.flush();
    const refused = await farbus('copy', farbusFile, source('held'), '--quiet');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/another client writes to the image/);
    const dry = await farbus('copy', farbusFile, `${source('held')}&takeover=1`, '--dry-run');
    expect(dry.stderr).toMatch(/another client \(.+\) holds it: a writer ends its writing \(takeover=1\)/);
    expect(dry.code).toBe(0);
    await first.write(4096, Buffer.alloc(4096, 1));
    await first.flush();
    const reader = await openRbd(source('held'), { readOnly: true });
    const bytes = Buffer.alloc(4096);
    await reader.read(0, bytes);
    expect(bytes.equals(Buffer.alloc(4096, 1))).toBe(true);
    await reader.close();
    await first.close();
    await (await openRbd(source('held'))).close();
  });

  it('lets no write of a gateway land that was stopped while another took over', async () => {
    create('fenced', '4M');
    const server = startFarbus('serve', `disk=${source('fenced')}`, '--listen', 'nbd://127.0.0.1:0');
    const [, uri] = await server.printed(/(nbd:\/\/\S+\/disk)/);
    const client = await openNbd(uri!, { reconnectSeconds: 1 });
    await client.write(0, Buffer.alloc(4096, 1));
    await client.flush();
    server.child.kill('SIGSTOP');
    // Waits in the socket of the frozen gateway.
    const old = client.write(0, Buffer.alloc(4096, 9)).then(
      () => client.flush(),
      (error: unknown) => error,
    );
    const next = await openRbd(`${source('fenced')}&takeover=1`);
    await next.write(0, Buffer.alloc(4096, 2));
    await next.flush();
    server.child.kill('SIGCONT');
    await expect(
      Promise.resolve(old).then((result) => Promise.reject(result ?? new Error('it was acknowledged'))),
    ).rejects.toThrow();
    const bytes = Buffer.alloc(4096);
    await next.read(0, bytes);
    expect(bytes.equals(Buffer.alloc(4096, 2))).toBe(true);
    await expect(client.flush()).rejects.toThrow();
    await client.close();
    await next.close();
    server.child.kill('SIGKILL');
    await server.ended;
    ceph.run('rbd', 'export', 'fenced', join(folder, 'fenced.img'), '--no-progress');
    expect(readFileSync(join(folder, 'fenced.img')).subarray(0, 4096).equals(Buffer.alloc(4096, 2))).toBe(true);
  });

  it('is read-only as a snapshot, and keeps what it had', async () => {
    create('snapped', '4M');
    const disk = await openRbd(source('snapped'));
    await disk.write(0, Buffer.alloc(512, 1));
    await disk.flush();
    ceph.run('rbd', 'snap', 'create', 'rbd/snapped@one');
    await disk.write(0, Buffer.alloc(512, 2));
    await disk.close();
    const snapshot = await openRbd(`rbd:rbd/snapped@one?conf=${ceph.conf}`);
    const bytes = Buffer.alloc(512);
    await snapshot.read(0, bytes);
    expect([snapshot.info.readOnly, bytes[0]]).toEqual([true, 1]);
    await snapshot.close();
  });

  it('fails where it was shortened, also for a reader without its lock', async () => {
    create('shortened', '16M');
    const writer = await openRbd(source('shortened'));
    await writer.write(12 << 20, Buffer.alloc(4096, 5));
    await writer.close();
    const reader = await openRbd(source('shortened'), { readOnly: true });
    const bytes = Buffer.alloc(4096);
    await reader.read(12 << 20, bytes);
    expect(bytes[0]).toBe(5);
    ceph.run('rbd', 'resize', 'shortened', '--size', '8M', '--allow-shrink', '--no-progress');
    // The cluster tells a reader without the lock a moment later.
    await expect.poll(() => reader.read(12 << 20, bytes).catch((error: BlockError) => error.kind)).toBe('io');
    await reader.close();
  });

  it("is longer at once when it has grown, and a guest's NVMe driver is told without a command", async () => {
    create('grown', '4M');
    const disk = await openRbd(source('grown'));
    const driver = new NvmeDriver(new VirtualIoClient(disk));
    await driver.start();
    await driver.expect({
      opcode: AdminOpcode.setFeatures,
      dword10: Feature.asyncEventConfiguration,
      dword11: 1 << 8,
    });
    const event = driver.submit({ opcode: AdminOpcode.asyncEventRequest });
    ceph.run('rbd', 'resize', 'grown', '--size', '8M', '--no-progress');
    expect((await event).result).toBe(0x040002);
    expect(disk.info.size).toBe(8 << 20);
    await disk.write(8 * 2 ** 20 - 512, Buffer.alloc(512, 3));
    await disk.close();
  });

  it('has its length for each new client of a gateway, and a longer one after growth', async () => {
    create('lengthened', '4M');
    const server = startFarbus('serve', `disk=${source('lengthened')}`, '--listen', 'nbd://127.0.0.1:0');
    const [, uri] = await server.printed(/(nbd:\/\/\S+\/disk)/);
    const before = await openNbd(uri!);
    ceph.run('rbd', 'resize', 'lengthened', '--size', '8M', '--no-progress');
    const after = await openNbd(uri!);
    expect([before.info.size, after.info.size]).toEqual([4 << 20, 8 << 20]);
    await before.close();
    await after.close();
    server.child.kill('SIGTERM');
    await server.ended;
  });

  it('answers reads again when the cluster is back after the reconnect time', async () => {
    create('silent', '4M');
    const disk = await openRbd(source('silent'), { reconnectSeconds: 1 });
    await disk.write(0, Buffer.alloc(4096, 5));
    await disk.flush();
    await disk.close();
    const reader = await openRbd(source('silent'), { readOnly: true, reconnectSeconds: 1 });
    const bytes = Buffer.alloc(4096);
    const osd = ceph.pid('osd.0');
    process.kill(osd, 'SIGSTOP');
    try {
      await expect(reader.read(0, bytes)).rejects.toMatchObject({ kind: 'unreachable' });
    } finally {
      process.kill(osd, 'SIGCONT');
    }
    await reader.read(0, bytes);
    expect(bytes.equals(Buffer.alloc(4096, 5))).toBe(true);
    await reader.close();
  });

  it('takes no change after one that was given up, which could land on it', async () => {
    create('given-up', '4M');
    const disk = await openRbd(source('given-up'), { reconnectSeconds: 1 });
    const osd = ceph.pid('osd.0');
    process.kill(osd, 'SIGSTOP');
    try {
      await expect(disk.write(0, Buffer.alloc(4096, 6), { fua: true })).rejects.toMatchObject({ kind: 'unreachable' });
    } finally {
      process.kill(osd, 'SIGCONT');
    }
    await expect(disk.write(0, Buffer.alloc(4096, 7))).rejects.toThrow(/open it again/);
    await disk.close();
  });

  it('without the feature exclusive-lock is refused for writing, with the reason', async () => {
    ceph.run('rbd', 'create', 'lockless', '--size', '4M', '--image-feature', 'layering');
    await expect(openRbd(source('lockless'))).rejects.toThrow(/it lacks the feature exclusive-lock/);
    await (await openRbd(source('lockless'), { readOnly: true })).close();
  });

  it.each([
    ['nothing', /there is no such image \(ENOENT\)/],
    ['a/b/c', /expected rbd:POOL/],
    ['suite@none', /there is no such image \(ENOENT\)/],
  ])('that does not exist is refused in one line: %s', async (name, why) => {
    const { code, stderr } = await farbus('info', source(name));
    expect(code).not.toBe(0);
    expect(stderr).toMatch(why);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  it('of a cluster that does not answer is refused in time', async () => {
    const conf = join(folder, 'none.conf');
    writeFileSync(conf, '[global]\nmon host = [v2:127.0.0.1:1]\nauth client required = none\n');
    const { code, stderr } = await farbus('info', `rbd:rbd/disk?conf=${conf}`, '--reconnect', '2');
    expect(code).toBe(1);
    expect(stderr).toMatch(/the cluster (does not answer|cannot be reached)/);
  });
});
