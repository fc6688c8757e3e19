/**
 * Replaced disks: another disk of the same size takes the name of the one in use. Data kept for the
 * first disk (an overlay, a cache, half a copy, waiting requests) must not be applied to the
 * second. Each kind of source runs that part of the conformance suite; vblade does in aoe.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { contentOf, replacedSize, replacedTests, twoDisks, type Replaceable } from '../conformance/replaced.js';
import { readBytes } from '../../src/conformance/subject.js';
import { farbusServe, freePort, freeSocket, missing, nbdkit, qemuNbd, type NbdPeer } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus, startFarbus, type Started } from './farbus.js';

const write = (device: BlockDevice, offset: number, text: string): Promise<void> =>
  device.write(offset, buffersOf(new Uint8Array(4096).fill(text.charCodeAt(0))));

async function use(text: string, work: (device: BlockDevice) => Promise<void>): Promise<void> {
  const device = await openSource(parseSource(text), { log: silent, reconnectSeconds: 5 });
  try {
    await work(device);
  } finally {
    await device.close();
  }
}

describe('another file at the same path', () => {
  it('is refused as the base of the overlay of the first', async () => {
    const { path, swap } = twoDisks();
    const overlay = tempPath('o');
    await use(`${path},overlay=${overlay}`, (device) => write(device, 0, 'x'));
    swap();
    const refused = await farbus('info', `${path},overlay=${overlay}`);
    expect(refused.stderr).toMatch(
      /^farbus: the overlay \S+ was made for [^\n]*its file was replaced[^\n]* ,assume-same [^\n]*\n$/,
    );
    expect(refused.code).toBe(1);
    await use(`${path},overlay=${overlay},assume-same`, async (device) => {
      expect((await readBytes(device, 0, 4096))[0]).toBe('x'.charCodeAt(0));
    });
    swap();
    await use(`${path},overlay=${overlay}`, (device) => write(device, 0, 'y'));
  });

  it("is refused as an overlay's base if its content has been replaced", async () => {
    const { path } = twoDisks();
    const overlay = tempPath('o');
    await use(`${path},overlay=${overlay}`, (device) => write(device, 0, 'x'));
    writeFileSync(path, contentOf('c'));
    expect((await farbus('info', `${path},overlay=${overlay}`)).stderr).toMatch(/a disk that has been written/);
  });
});

describe('a copy that is resumed', () => {
  it.skipIf(missing('nbdkit'))(
    'goes on neither from another source nor to another target of the same name',
    async () => {
      const { path, other, swap } = twoDisks();
      const place = await freePort();
      const state = process.env['XDG_STATE_HOME'];
      process.env['XDG_STATE_HOME'] = tempFolder();
      // The target fails in the middle of the copy.
      const first = tempPath('first.img');
      writeFileSync(first, new Uint8Array(replacedSize));
      const failing = ['--filter=error', 'file', first, `error-pwrite-rate=100%`, `error-file=${first}.fail`];
      const server = await nbdkit(place, failing);
      const begun = farbus('copy', path, server.uri, '--rate', '1M', '--jobs', '1');
      while (readFileSync(first)[1] === 0) await sleep(50);
      writeFileSync(`${first}.fail`, '');
      expect((await begun).stderr).toMatch(/--resume continues from there/);
      swap();
      const elsewhere = await farbus('copy', path, server.uri, '--resume');
      expect(elsewhere.stderr).toMatch(/cannot resume .*: the source is another disk: its file was replaced/);
      swap();
      await server.kill();
      writeFileSync(`${other}.blank`, new Uint8Array(replacedSize));
      const second = await nbdkit(place, ['file', `${other}.blank`]);
      const refused = await farbus('copy', path, second.uri, '--resume');
      expect(refused.stderr).toMatch(/cannot resume .*: the target no longer has what was copied, at byte \d+;/);
      await second.kill();
      const again = await nbdkit(place, ['file', first]);
      expect((await farbus('copy', path, again.uri, '--resume')).code).toBe(0);
      await again.kill();
      expect(readFileSync(first).equals(contentOf('a'))).toBe(true);
      if (state === undefined) delete process.env['XDG_STATE_HOME'];
      else process.env['XDG_STATE_HOME'] = state;
    },
  );
});

/** A server that can be killed and restarted at the same address. */
type Server = Pick<NbdPeer, 'uri' | 'kill' | 'start'>;

const openWith = (text: string) => (): Promise<BlockDevice> =>
  openSource(parseSource(text), { log: silent, reconnectSeconds: 5 });

/** A server of the file at a path, of which the other file takes the place. */
async function served(start: (path: string) => Promise<Server>, more = ''): Promise<Replaceable> {
  const disks = twoDisks();
  const server = await start(disks.path);
  const replace = async (): Promise<void> => {
    await server.kill();
    disks.swap();
    await server.start();
  };
  return { open: openWith(server.uri + more), replace, disks, keeps: more !== '', cleanup: () => server.kill() };
}

/** An OpenSSH server whose sessions only have the programs of `path`. */
async function sshd(scheme: string, path: string, programs?: string): Promise<Server> {
  const server = await Sshd.start(programs === undefined ? {} : { env: { PATH: programs } });
  process.env['FARBUS_SSH'] = server.ssh;
  const start = async (): Promise<NbdPeer> => (await server.start(), undefined as never);
  return { uri: `${scheme}://test${path}`, kill: () => server.stop(), start };
}

/** BusyBox, in the place of every program of an OpenSSH server. */
function busybox(path: string): Promise<Server> {
  const folder = tempFolder();
  execFileSync('busybox', ['--install', '-s', folder]);
  return sshd('ssh+dd', path, folder);
}

/** `farbus serve` on a segment of two UDP ports. */
async function aoe(path: string): Promise<Server> {
  const [{ port: near }, { port: far }] = [await freePort(), await freePort()];
  let server: Started | undefined;
  const start = async (): Promise<NbdPeer> => {
    server = startFarbus('serve', `disk=${path}`, '--listen', `aoe:1.0@udp:127.0.0.1:${far}/127.0.0.1:${near}`);
    await server.printed(/aoe:1.0/);
    return undefined as never;
  };
  const kill = async (): Promise<void> => {
    server?.child.kill('SIGKILL');
    await server?.ended;
  };
  await start();
  return { uri: `aoe:1.0@udp:127.0.0.1:${near}/127.0.0.1:${far}`, kill, start };
}

const ssh = process.env['FARBUS_SSH'];
afterAll(() => {
  if (ssh === undefined) delete process.env['FARBUS_SSH'];
  else process.env['FARBUS_SSH'] = ssh;
});

/** A file of this computer, with the filters of `more`. */
async function local(more = ''): Promise<Replaceable> {
  const disks = twoDisks();
  return { open: openWith(disks.path + more), replace: async () => disks.swap(), disks, keeps: more !== '' };
}

/** Two loop devices, of which a link names one: as /dev/disk/by-path names a disk. */
async function looped(more = ''): Promise<Replaceable> {
  const disks = twoDisks();
  let [now, next] = [attachLoop(disks.path), attachLoop(disks.other)];
  const link = tempPath('by-path');
  symlinkSync(now, link);
  const replace = async (): Promise<void> => {
    [now, next] = [next, now];
    rmSync(link);
    symlinkSync(now, link);
    disks.swap();
  };
  return { open: openWith(link + more), replace, disks, keeps: more !== '' };
}

replacedTests('a file', local);
replacedTests("an overlay's base", () => local(`,overlay=${tempPath('o')}`));
replacedTests("a kept cache's source", () => local(`,cache=${tempPath('c')},cache-keep`));
replacedTests('farbus serve', () => served((path) => farbusServe(freeSocket(), 'disk', [`disk=${path}`])));
replacedTests('farbus serve by AoE', () => served(aoe));
describe.skipIf(cannotLoop() !== undefined)('block devices', () => {
  replacedTests('a block device', looped);
  replacedTests("an overlay's base that is a block device", () => looped(`,overlay=${tempPath('o')}`));
  replacedTests("a kept cache's source that is a block device", () => looped(`,cache=${tempPath('c')},cache-keep`));
});
describe.skipIf(missing('nbdkit'))('nbdkit', () => {
  const start = (path: string): Promise<Server> => nbdkit(freeSocket(), ['file', path]);
  replacedTests('nbdkit', () => served(start));
  replacedTests("an overlay's base from nbdkit", () => served(start, `,overlay=${tempPath('o')}`));
});
describe.skipIf(missing('qemu-nbd'))('qemu-nbd', () => {
  replacedTests('qemu-nbd', () => served((path) => qemuNbd(freeSocket(), path)));
});
describe.skipIf(cannotSshd() !== undefined)('by ssh', () => {
  replacedTests('sftp-server', () => served((path) => sshd('ssh+sftp', path)));
  replacedTests('GNU dd', () => served((path) => sshd('ssh+dd', path)));
});
describe.skipIf(cannotSshd() !== undefined || missing('busybox'))('by ssh, in BusyBox', () => {
  replacedTests('BusyBox dd', () => served(busybox));
});

describe('a server of another kind at the same address', () => {
  it.skipIf(missing('nbdkit'))('is not taken for the one that told which disk it has', async () => {
    const { path, other } = twoDisks();
    const place = await freePort();
    const first = await farbusServe(place, '', [path]);
    await use(first.uri, async (device) => {
      await write(device, 0, 'x');
      await first.kill();
      const second = await nbdkit(place, ['file', other]);
      await expect(write(device, 4096, 'y')).rejects.toThrow(/the export changed/);
      await second.kill();
    });
    expect(readFileSync(other).equals(contentOf('b'))).toBe(true);
  });

  it('behind a gateway of ours is recognised by its content', async () => {
    const { path, other } = twoDisks();
    const place = freeSocket();
    const start = (file: string): Promise<NbdPeer> => farbusServe(place, 'm', [`m=${file}`]);
    const upstream = await nbdkit(await freePort(), ['file', path]);
    const first = await start(upstream.uri);
    await use(first.uri, async (device) => {
      await readBytes(device, 0, 4096);
      await first.kill();
      const another = await nbdkit(await freePort(), ['file', other]);
      const second = await start(another.uri);
      await expect(write(device, 4096, 'y')).rejects.toThrow(/another disk has its name/);
      await second.kill();
      await another.kill();
    });
    await upstream.kill();
    expect(readFileSync(other).equals(contentOf('b'))).toBe(true);
  });
});
