/**
 * Gateways that replace each other (docs/failover.md): `farbus serve` of an image of a real Ceph,
 * killed and frozen under a load that checks every block: 100 times under fio, and 6 times under a
 * load that also zeroes and reads at random (100 times with FARBUS_TEST_ALL=1).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serve } from '../../src/app/library/serve.js';
import type { ServeStatus } from '../../src/app/serve/control.js';
import type { LogLevel } from '../../src/base/log.js';
import { readBytes } from '../../src/conformance/subject.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import type { NbdInitiator, NbdOptions } from '../../src/protocol/nbd/initiator/initiator.js';
import { Ceph } from '../support/ceph.js';
import { until } from '../support/event-loop.js';
import { farbusServe, freePort, freeSocket, missing, type NbdPeer } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { VerifiedLoad } from '../support/verified-load.js';
import { execute, farbus } from './farbus.js';

/** Losses of the gateway in use under fio. */
const fioLosses = 100;
/** The same under the project's own load. */
const losses = [undefined, 'rest'].includes(process.env['FARBUS_TEST_ALL']) ? 6 : 100;

/** The same random writes of the whole image at each call, or their verification. */
async function fio(...more: string[]): Promise<void> {
  const job = ['--name=v', '--rw=randwrite', '--bs=4k', '--size=16M', '--iodepth=16', '--randrepeat=1'];
  const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0'];
  const { code, stdout, stderr } = await execute('fio', [...job, ...verify, ...more], 150_000);
  expect(code, stdout + stderr).toBe(0);
}

const block = (value: number): Buffer => Buffer.alloc(4096, value);

describe('two gateways of an image', () => {
  const folder = tempFolder();
  let ceph: Ceph;
  const running: NbdPeer[] = [];
  beforeAll(async () => {
    ceph = await Ceph.start();
  });
  afterAll(() => ceph?.stop());

  /** Creates an image and starts gateways of it. */
  async function gateways(image: string, count = 2): Promise<NbdPeer[]> {
    ceph.run('rbd', 'create', image, '--size', '16M');
    const source = `disk=rbd:rbd/${image}?conf=${ceph.conf}&standby=1`;
    const started = [];
    for (let at = 0; at < count; at++) started.push(await farbusServe(await freePort(), 'disk', [source]));
    running.push(...started);
    return started;
  }

  function uriOf(all: readonly NbdPeer[], more = ''): string {
    const hosts = all.map(({ uri }) => new URL(uri.replace('nbd:', 'http:')).host);
    return `nbd://${hosts.join(',')}/disk?x-detect=1${more}`;
  }

  async function connect(all: readonly NbdPeer[], options: NbdOptions = {}) {
    const lines: [LogLevel, string][] = [];
    const log = { log: (level: LogLevel, text: string) => void lines.push([level, text]) };
    return { device: await openNbd(uriOf(all), { log, ...options }), lines };
  }

  function inUse(device: NbdInitiator, all: readonly NbdPeer[]): NbdPeer {
    return all.find(({ uri }) => uri === device.info.route)!;
  }

  function exported(image: string): Buffer {
    const file = join(folder, `${image}.img`);
    ceph.run('rbd', 'export', image, file, '--no-progress');
    return readFileSync(file);
  }

  it(`killed and frozen under load ${losses} times, lose nothing and let nothing old through`, async () => {
    const all = await gateways('load');
    const { device, lines } = await connect(all);
    const load = new VerifiedLoad(device);
    await load.go(50);
    for (let loss = 0; loss < losses; loss++) {
      const lost = inUse(device, all);
      if (loss % 2 === 0) {
        await lost.kill('SIGKILL');
        await until(() => inUse(device, all) !== lost);
        await lost.start();
      } else {
        lost.signal('SIGSTOP');
        await until(() => inUse(device, all) !== lost);
        await load.go(20);
        lost.signal('SIGCONT');
      }
      await load.go(50);
    }
    await load.stop();
    await device.flush();
    expect(Buffer.compare(await readBytes(device, 0, load.model.length), load.model)).toBe(0);
    await device.close();
    expect(lines.filter(([level]) => level === 'error')).toEqual([]);
    // Lines that repeat within a short time are left out.
    expect(lines.some(([, text]) => / at nbd:.* now/.test(text))).toBe(true);
    for (const one of all) await one.kill('SIGTERM');
    expect(Buffer.compare(exported('load'), load.model)).toBe(0);
  }, 900_000);

  it.skipIf(missing('fio'))(
    `killed and frozen ${fioLosses} times, fail no verification of fio`,
    async () => {
      const all = await gateways('fio');
      const { device } = await connect(all);
      const socket = freeSocket().path;
      const server = await serve({ disk: device }, { listen: `nbd+unix:///?socket=${socket}` });
      let over = false;
      /** Writes the whole image in random order and verifies it, again and again. */
      const verified = async (): Promise<void> => {
        while (!over) await fio('--ioengine=nbd', `--uri=${server.uri()}`, '--verify_backlog=64');
      };
      const lose = async (): Promise<void> => {
        for (let loss = 0; loss < fioLosses; loss++) {
          await sleep(200);
          const lost = inUse(device, all);
          if (loss % 2 === 0) await lost.kill('SIGKILL');
          else lost.signal('SIGSTOP');
          await until(() => inUse(device, all) !== lost);
          if (loss % 2 === 0) await lost.start();
          else lost.signal('SIGCONT');
        }
        over = true;
      };
      await Promise.all([verified(), lose()]);
      await server.close();
      await device.close();
      for (const one of all) await one.kill('SIGTERM');
      exported('fio');
      await fio('--ioengine=psync', `--filename=${join(folder, 'fio.img')}`, '--verify_only');
    },
    900_000,
  );

  it('never run a write that waited in a frozen one that had not been used', async () => {
    const [first, second] = (await gateways('late')) as [NbdPeer, NbdPeer];
    const old = await openNbd(first.uri, { reconnectSeconds: 0 });
    await old.write(0, block(1));
    await old.flush();
    first.signal('SIGSTOP');
    // It waits in the socket of the frozen gateway.
    const late = old.write(0, block(9)).then(
      () => 'acknowledged',
      () => 'refused',
    );
    const next = await openNbd(second.uri);
    await next.write(0, block(2));
    await next.flush();
    first.signal('SIGCONT');
    expect(await late).toBe('refused');
    expect(Buffer.compare(await readBytes(next, 0, 4096), block(2))).toBe(0);
    await next.close();
    await old.close();
    expect(Buffer.compare(exported('late').subarray(0, 4096), block(2))).toBe(0);
  });

  it('and one that uses them show in their status who has the lock, and which is in use', async () => {
    const [first, second] = (await gateways('status')) as [NbdPeer, NbdPeer];
    const third = await farbusServe(await freePort(), 'far', [`far=${uriOf([first, second])}`]);
    running.push(third);
    const statusOf = async (pid: string, exported: string) => {
      const { stdout } = await farbus('status', '--json');
      const servers = JSON.parse(stdout) as ServeStatus[];
      const found = servers.find((one) => String(one.pid) === pid);
      return found?.exports.find((one) => one.name === exported);
    };
    const device = await openNbd(third.uri);
    await device.write(0, block(1));
    const holder = await statusOf(String(first.pid), 'disk');
    expect(holder?.lock).toMatchObject({ state: 'here', standby: true });
    expect(holder?.lock?.client).toMatch(/^client\.\d+$/);
    expect(holder?.lock?.address).toMatch(/^127\.0\.0\.1:/);
    expect((await statusOf(String(second.pid), 'disk'))?.lock).toEqual({ ...holder?.lock, state: 'elsewhere' });
    expect((await statusOf(String(third.pid), 'far'))?.route).toBe(first.uri);
    await first.kill('SIGKILL');
    await device.write(0, block(2));
    expect((await statusOf(String(second.pid), 'disk'))?.lock?.state).toBe('here');
    expect((await statusOf(String(third.pid), 'far'))?.route).toBe(second.uri);
    const text = (await farbus('status')).stdout;
    expect(text).toContain(`by way of ${second.uri}`);
    expect(text).toMatch(/lock: held here \(client\.\d+ at .*, cookie auto \d+\)/);
    await device.close();
  });

  it('have one that may write, and readers beside it', async () => {
    const [first, second] = (await gateways('shared')) as [NbdPeer, NbdPeer];
    const writer = await openNbd(first.uri);
    await writer.write(0, block(3));
    const reader = await openNbd(second.uri, { readOnly: true });
    expect(Buffer.compare(await readBytes(reader, 0, 4096), block(3))).toBe(0);
    expect((await farbus('info', second.uri)).code).toBe(0);
    await writer.write(0, block(4));
    await writer.flush();
    expect(Buffer.compare(await readBytes(reader, 0, 4096), block(4))).toBe(0);
    await reader.close();
    await writer.close();
    expect(first.output).not.toMatch(/taken the image over/);
  });
});

describe('the source of a gateway', () => {
  it.each([
    [['info', 'rbd:rbd/x@s?standby=1'], /a snapshot needs no lock/],
    [['info', 'rbd:rbd/x?standby=1&takeover=1'], /leave out takeover=1/],
    [['info', 'rbd:rbd/x?standby=2'], /standby is 0 or 1/],
    [['info', 'nbd://a,a/x'], /a gateway is named twice/],
    [['serve', 'memory:1M', '--listen', 'nbd://a,b'], /one address at a time/],
  ])('is refused in one line: %j', async (words, why) => {
    const { code, stderr } = await farbus(...words);
    expect(code).toBe(2);
    expect(stderr).toMatch(why);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});
