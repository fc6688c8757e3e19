/**
 * Replaced disks: another disk of the same size takes the name of the one in use. Data kept for the
 * first disk (an overlay, a cache, half a copy, waiting requests) must not be applied to the
 * second.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { openDrive } from '../../src/app/sources.js';
import { readBytes } from '../conformance/subject.js';
import {
  farbusServe,
  freePort,
  freeSocket,
  missing,
  nbdkit,
  qemuNbd,
  type NbdPeer,
  type Place,
} from '../support/nbd-peers.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus, startFarbus, type Started } from './farbus.js';

const size = 4 << 20;
/** Blocks that differ from each other and from those of another letter. */
const content = (letter: string): Buffer =>
  Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i % 4096 === 0 ? i >> 12 : letter.charCodeAt(0))));

/** Two disks. `swap` gives the second one the path of the first. */
function twoDisks(): { path: string; other: string; swap: () => void } {
  const folder = tempFolder();
  const [path, other] = [`${folder}/disk.img`, `${folder}/other.img`];
  writeFileSync(path, content('a'));
  writeFileSync(other, content('b'));
  const swap = (): void => {
    renameSync(path, `${folder}/old.img`);
    renameSync(other, path);
    renameSync(`${folder}/old.img`, other);
  };
  return { path, other, swap };
}

const write = (device: BlockDevice, offset: number, text: string): Promise<void> =>
  device.write(offset, buffersOf(new Uint8Array(4096).fill(text.charCodeAt(0))));

async function use(text: string, work: (device: BlockDevice) => Promise<void>): Promise<void> {
  const device = await openDrive(text, { log: silent, reconnectSeconds: 5 });
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

  it('is not read from the cache of the first', async () => {
    const { path, swap } = twoDisks();
    const text = `${path},cache=${tempPath('c')},cache-keep`;
    await use(text, async (device) => expect((await readBytes(device, 0, 4096))[1]).toBe('a'.charCodeAt(0)));
    swap();
    await use(text, async (device) => expect((await readBytes(device, 0, 4096))[1]).toBe('b'.charCodeAt(0)));
  });

  it("is refused as an overlay's base if its content has been replaced", async () => {
    const { path } = twoDisks();
    const overlay = tempPath('o');
    await use(`${path},overlay=${overlay}`, (device) => write(device, 0, 'x'));
    writeFileSync(path, content('c'));
    expect((await farbus('info', `${path},overlay=${overlay}`)).stderr).toMatch(/a disk that has been written/);
  });
});

describe('a copy that is resumed', () => {
  it.skipIf(missing('nbdkit'))('does not go on to another target of the same name', async () => {
    const { path, other } = twoDisks();
    const place = await freePort();
    const state = process.env['XDG_STATE_HOME'];
    process.env['XDG_STATE_HOME'] = tempFolder();
    // The target fails in the middle of the copy.
    const first = tempPath('first.img');
    writeFileSync(first, new Uint8Array(size));
    const failing = ['--filter=error', 'file', first, `error-pwrite-rate=100%`, `error-file=${first}.fail`];
    const server = await nbdkit(place, failing);
    const begun = farbus('copy', path, server.uri, '--rate', '1M', '--jobs', '1');
    while (readFileSync(first)[1] === 0) await sleep(50);
    writeFileSync(`${first}.fail`, '');
    expect((await begun).stderr).toMatch(/--resume continues from there/);
    await server.kill();
    writeFileSync(`${other}.blank`, new Uint8Array(size));
    const second = await nbdkit(place, ['file', `${other}.blank`]);
    const refused = await farbus('copy', path, second.uri, '--resume');
    expect(refused.stderr).toMatch(/cannot resume .*: the target no longer has what was copied, at byte \d+;/);
    await second.kill();
    const again = await nbdkit(place, ['file', first]);
    expect((await farbus('copy', path, again.uri, '--resume')).code).toBe(0);
    await again.kill();
    expect(readFileSync(first).equals(content('a'))).toBe(true);
    if (state === undefined) delete process.env['XDG_STATE_HOME'];
    else process.env['XDG_STATE_HOME'] = state;
  });
});

/** A server that can be killed and restarted at the same address. */
type Replaceable = Pick<NbdPeer, 'uri' | 'kill' | 'start'>;

/** An OpenSSH server whose sessions only have the programs of `path`. */
async function sshd(scheme: string, path: string, programs?: string): Promise<Replaceable> {
  const server = await Sshd.start(programs === undefined ? {} : { env: { PATH: programs } });
  process.env['FARBUS_SSH'] = server.ssh;
  const start = async (): Promise<NbdPeer> => (await server.start(), undefined as never);
  return { uri: `${scheme}://test${path}`, kill: () => server.stop(), start };
}

/** `farbus serve` on a segment of two UDP ports. */
async function aoe(path: string): Promise<Replaceable> {
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

const servers: [name: string, missing: () => boolean, (place: Place, path: string) => Promise<Replaceable>][] = [
  ['nbdkit', () => missing('nbdkit'), (place, path) => nbdkit(place, ['file', path])],
  ['qemu-nbd', () => missing('qemu-nbd'), (place, path) => qemuNbd(place, path)],
  ['farbus serve', () => false, (place, path) => farbusServe(place, 'disk', [`disk=${path}`])],
  ['farbus serve by AoE', () => false, (_, path) => aoe(path)],
  ['sftp-server', () => cannotSshd() !== undefined, (_, path) => sshd('ssh+sftp', path)],
  ['GNU dd by ssh', () => cannotSshd() !== undefined, (_, path) => sshd('ssh+dd', path)],
  [
    'BusyBox dd by ssh',
    () => cannotSshd() !== undefined || missing('busybox'),
    (_, path) => {
      const folder = tempFolder();
      execFileSync('busybox', ['--install', '-s', folder]);
      return sshd('ssh+dd', path, folder);
    },
  ],
];

describe.each(servers)('%s that comes back with another disk', (_name, cannot, start) => {
  it.skipIf(cannot())('gets none of the requests that waited, and the first disk does', async () => {
    const { path, other, swap } = twoDisks();
    const server = await start(await freePort(), path);
    await use(`${server.uri}`, async (device) => {
      await readBytes(device, 65536, 4096);
      await write(device, 8192, 'x');
      await device.flush();
      await server.kill();
      swap();
      await server.start();
      await expect(write(device, 4096, 'y')).rejects.toThrow(/another disk/);
      await expect(readBytes(device, 0, 4096)).rejects.toThrow(/another disk/);
      expect(readFileSync(path).equals(content('b'))).toBe(true);
      await server.kill();
      swap();
      await server.start();
      const again = (): Promise<boolean> =>
        write(device, 4096, 'y').then(
          () => false,
          () => true,
        );
      while (await again()) await sleep(20);
      await device.flush();
      expect(readFileSync(path).subarray(4096, 4097).toString()).toBe('y');
      expect(readFileSync(other).equals(content('b'))).toBe(true);
    });
    await server.kill();
  });
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
    expect(readFileSync(other).equals(content('b'))).toBe(true);
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
    expect(readFileSync(other).equals(content('b'))).toBe(true);
  });
});
