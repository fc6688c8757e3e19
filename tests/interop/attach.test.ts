/**
 * `farbus attach`: unmodified tools on its socket, the status and signals of its command, and its
 * end.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { freeSocket, missing, nbdkit } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { execute, farbus, startFarbus } from './farbus.js';

const MiB = 1 << 20;

function image(size = 4 * MiB, seed = 1): { path: string; bytes: Uint8Array } {
  const path = tempPath('disk.img');
  const bytes = new Random(seed).bytes(size);
  bytes.fill(0, 0, MiB);
  writeFileSync(path, bytes);
  return { path, bytes };
}

/** The folder of a socket. Tests run concurrently, so only a test's own folder can be checked. */
const socketFolder = (uri: string): string => /socket=(.*)\/nbd\.sock$/.exec(uri.trim())![1]!;

describe('farbus attach', () => {
  it.skipIf(missing('nbdinfo'))('gives the disk to nbdinfo', async () => {
    const { path } = image();
    const { code, stdout } = await farbus('attach', path, '--read-only', '--', 'nbdinfo', '--json', '{nbd}');
    expect(code).toBe(0);
    const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(exports[0]).toMatchObject({ 'export-size': 4 * MiB, is_read_only: true, description: path });
  });

  it.skipIf(missing('nbdcopy'))('nbdcopy reads and writes it', async () => {
    const { path, bytes } = image();
    const out = tempPath('out.img');
    expect((await farbus('attach', path, '--', 'nbdcopy', '{nbd}', out)).code).toBe(0);
    expect(readFileSync(out).equals(bytes)).toBe(true);
    const other = image(4 * MiB, 2);
    expect((await farbus('attach', path, '--', 'nbdcopy', '--flush', other.path, '{nbd}')).code).toBe(0);
    expect(readFileSync(path).equals(other.bytes)).toBe(true);
  });

  it.skipIf(missing('qemu-img'))('qemu-img converts it, compares it, and writes to its overlay', async () => {
    const { path, bytes } = image();
    const copy = tempPath('disk.qcow2');
    const convert = ['qemu-img', 'convert', '-f', 'raw', '{nbd}', '-O', 'qcow2', copy];
    expect((await farbus('attach', path, '--read-only', '--', ...convert)).code).toBe(0);
    const compare = ['qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', '{nbd}', copy];
    expect((await farbus('attach', path, '--read-only', '--', ...compare)).code).toBe(0);

    const overlay = tempPath('overlay');
    const write = ['qemu-io', '-f', 'raw', '-c', 'write -P 0x5a 1M 64k', '-c', 'flush', '{nbd}'];
    expect((await farbus('attach', path, '--overlay', overlay, '--', ...write)).code).toBe(0);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    const differs = await farbus('attach', path, '--overlay', overlay, '--', ...compare);
    expect(differs.code).toBe(1);
    expect(differs.stdout).toContain('mismatch');
  });

  it.skipIf(missing('nbdkit'))('passes on what another server offers', async () => {
    const server = await nbdkit(freeSocket(), ['pattern', '8M']);
    const out = tempPath('out.img');
    expect((await farbus('attach', server.uri, '--readahead', '--', 'nbdcopy', '{nbd}', out)).code).toBe(0);
    const bytes = readFileSync(out);
    for (const at of [0, 4096, 8 * MiB - 8]) expect(bytes.readBigUInt64BE(at)).toBe(BigInt(at));
  });

  it.skipIf(missing('sfdisk'))('gives one partition', async () => {
    const { path, bytes } = image();
    const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
    execFileSync('sfdisk', ['--quiet', path], {
      env,
      input: 'label: dos\nstart=2048,size=2048\nstart=4096,size=1024\n',
      stdio: 'pipe',
    });
    const out = tempPath('out.img');
    expect((await farbus('attach', path, '--partition', '2', '--', 'nbdcopy', '{nbd}', out)).code).toBe(0);
    expect(readFileSync(out).equals(bytes.subarray(2 * MiB, 2 * MiB + MiB / 2))).toBe(true);
    const none = await farbus('attach', path, '--partition', '3', '--', 'true', '{nbd}');
    expect(none).toMatchObject({ code: 1 });
    expect(none.stderr).toContain('no partition 3: it has 1, 2');
  });
});

describe('the command', () => {
  it('gives its exit status, 128 + n for a signal, 127 and 126 for a command that cannot be run', async () => {
    const { path } = image();
    const status = async (...command: string[]): Promise<number | null> =>
      (await farbus('attach', path, '--', ...command)).code;
    expect(await status('sh', '-c', 'test -S {socket} && exit 7')).toBe(7);
    expect(await status('sh', '-c', 'kill -KILL $$ # {nbd}')).toBe(137);
    expect(await status('no-such-program', '{nbd}')).toBe(127);
    expect(await status(tempFolder(), '{nbd}')).toBe(126);
  });

  it('gets its words unchanged, without a shell', async () => {
    const { path } = image();
    const words = ['a b', '$HOME', '`id`', '{other}', '--help', '{socket}{socket}'];
    const { stdout } = await farbus('attach', path, '--', 'printf', '%s\\n', ...words);
    const lines = stdout.split('\n');
    expect(lines.slice(0, 5)).toEqual(words.slice(0, 5));
    expect(lines[5]).toMatch(/^(\/.+\/nbd\.sock)\1$/);
    expect(existsSync(lines[5]!.slice(0, lines[5]!.length / 2))).toBe(false);
  });

  it('receives the signals that farbus receives', async () => {
    const { path } = image();
    const script = 'trap "echo got it; exit 3" TERM; echo ready {nbd}; while :; do sleep 0.05; done';
    const started = startFarbus('attach', path, '--', 'sh', '-c', script);
    const [, uri] = await started.printed(/ready (.*)\n/);
    started.child.kill('SIGTERM');
    expect(await started.ended).toEqual({ code: 3, signal: null });
    expect(started.stdout()).toContain('got it');
    expect(existsSync(socketFolder(uri!))).toBe(false);
  });
});

describe('without a command', () => {
  it('prints the URI, serves until SIGTERM, and leaves nothing', async () => {
    const { path } = image();
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const started = startFarbus('attach', path);
      const [uri] = await started.printed(/^nbd\+unix:\/\/.*$/m);
      const folder = socketFolder(uri);
      expect(readdirSync(folder)).toEqual(['nbd.sock']);
      const mode = execFileSync('stat', ['-c', '%a', folder], { encoding: 'utf8' }).trim();
      expect(mode).toBe('700');
      if (!missing('nbdinfo')) {
        expect((await execute('nbdinfo', ['--size', uri])).stdout.trim()).toBe(String(4 * MiB));
      }
      started.child.kill(signal);
      expect((await started.ended).code).toBe(signal === 'SIGTERM' ? 0 : 130);
      expect(existsSync(folder)).toBe(false);
    }
  });

  it('uses the named socket', async () => {
    const { path } = image();
    const socket = join(tempFolder(), 'my disk.sock');
    const started = startFarbus('attach', path, '--socket', socket);
    await started.printed(/my%20disk\.sock/);
    const second = await farbus('attach', image().path, '--socket', socket);
    expect(second).toMatchObject({ code: 1, stdout: '' });
    expect(second.stderr).toContain('in use');
    started.child.kill('SIGTERM');
    await started.ended;
    expect(existsSync(socket)).toBe(false);
  });
});

describe('reports errors in one line', () => {
  const { path } = image();
  it.each([
    [[], 2, /Give a SOURCE/],
    [[path, 'true'], 2, /after --/],
    [[path, '--'], 2, /no COMMAND/],
    [[path, '--', 'true'], 2, /neither \{nbd\} nor \{socket\}/],
    [[path, '--overlay', 'x', '--read-only'], 2, /exclude each other/],
    [[path, '--partition', '0'], 2, /--partition 0/],
    [[path, '--socket', ''], 2, /--socket/],
    [[path, '--socket', `/tmp/${'x'.repeat(120)}`], 2, /107/],
    [['/no/such.img', '--', 'true', '{nbd}'], 1, /no such file/],
    [[path, '--overlay', '/no/such/folder/x', '--', 'true', '{nbd}'], 1, /no such file/],
  ])('%j', async (args, code, message) => {
    const result = await farbus('attach', ...args);
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toMatch(/^farbus: [^\n]+\n$/);
    expect(result.stderr).toMatch(message);
  });

  it('leaves no folder behind when it cannot start', async () => {
    const other = image();
    truncateSync(other.path, 3 * MiB);
    const overlay = tempPath('overlay');
    expect((await farbus('attach', path, '--overlay', overlay, '--', 'true', '{nbd}')).code).toBe(0);
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith('farbus-attach-'));
    expect((await farbus('attach', other.path, '--overlay', overlay, '--', 'true', '{nbd}')).code).toBe(1);
    const after = readdirSync(tmpdir()).filter((name) => name.startsWith('farbus-attach-'));
    expect(after.filter((name) => !before.includes(name))).toEqual([]);
  });
});
