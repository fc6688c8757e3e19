/**
 * `farbus serve` as a gateway: another server's export, and an overlay on it, used by an
 * independent client.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { ServeStatus } from '../../src/app/serve/control.js';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

const folder = tempFolder();
const image = join(folder, 'disk.img');
const content = randomBytes(4 << 20);
const origin = new ServeProcess(join(folder, 'origin'), [image]);

beforeAll(async () => {
  writeFileSync(image, content);
  await origin.start();
});

afterAll(() => origin.stop());

function copyOf(server: ServeProcess, name: string): Uint8Array {
  const copy = join(folder, 'copy');
  execFileSync('nbdcopy', [server.uri(name), copy]);
  return readFileSync(copy);
}

it('offers the disk of another server, and accepts writes', async () => {
  const gateway = new ServeProcess(join(folder, 'gateway'), [origin.uri('disk.img')]);
  await gateway.start();
  try {
    expect(Buffer.compare(copyOf(gateway, 'disk.img'), content)).toBe(0);
    execFileSync('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 64k 64k', '-c', 'flush', gateway.uri('disk.img')]);
    content.fill(0x5a, 64 << 10, 128 << 10);
    expect(Buffer.compare(readFileSync(image), content)).toBe(0);
  } finally {
    await gateway.stop();
  }
});

it('keeps writes in an overlay across restarts, and leaves the origin unchanged', async () => {
  const overlay = join(folder, 'overlay');
  const gateway = new ServeProcess(join(folder, 'gateway'), [`mine=${origin.uri('disk.img')},overlay=${overlay}`]);
  const expected = Uint8Array.from(content);
  for (const [pattern, offset] of [
    [0x11, 0],
    [0x22, 1 << 20],
  ] as const) {
    await gateway.start();
    try {
      const write = `write -P 0x${pattern.toString(16)} ${offset} 8k`;
      execFileSync('qemu-io', ['-f', 'raw', '-c', write, '-c', 'flush', gateway.uri('mine')]);
      expected.fill(pattern, offset, offset + 8192);
      expect(Buffer.compare(copyOf(gateway, 'mine'), expected)).toBe(0);
    } finally {
      await gateway.stop();
    }
  }
  expect(Buffer.compare(readFileSync(image), content)).toBe(0);
});

it('shows while the server of the disk is lost that it is, and since when', async () => {
  const source = origin.uri('disk.img');
  const over = `over=${source},overlay=${join(folder, 'away')}`;
  const metrics = await freePort();
  const options = ['--server-name', 'gate', '--metrics', `127.0.0.1:${metrics}`];
  const gateway = new ServeProcess(join(folder, 'gateway'), [`plain=${source}`, over, ...options]);
  await gateway.start();
  const several = `${source}&socket=${join(folder, 'none')}`;
  const disk = startFarbus('attach', several, '--name', 'far');
  await disk.printed(/nbd/);
  const awayTimes = async (): Promise<(number | undefined)[]> => {
    const [server] = JSON.parse((await farbus('status', 'gate', '--json')).stdout) as [ServeStatus];
    return server.exports.map(({ away }) => away);
  };
  const shown = async (): Promise<Record<string, unknown>> => ({
    disk: (await farbus('status', 'far')).stdout.match(/by way of nbd|away for .*, last at nbd/)?.[0].slice(0, 4),
    status: (await farbus('status', 'gate')).stdout.match(/away for/g)?.length,
    list: (await farbus('ps')).stdout.match(/\(away\)/g)?.length,
    metrics: (await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text()).match(/^farbus_export_away.* 1$/gm)
      ?.length,
  });
  const becomes = (what: Record<string, unknown>): Promise<void> =>
    vi.waitFor(async () => expect(await shown()).toEqual(what), { timeout: 50_000, interval: 200 });
  try {
    expect(await awayTimes()).toEqual([undefined, undefined]);
    await becomes({ disk: 'by w' });
    await origin.stop();
    await becomes({ disk: 'away', status: 2, list: 3, metrics: 2 });
    expect(await awayTimes()).toEqual([expect.any(Number), expect.any(Number)]);
    await origin.start();
    await becomes({ disk: 'by w' });
  } finally {
    disk.child.kill();
    await disk.ended;
    await gateway.stop();
  }
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
