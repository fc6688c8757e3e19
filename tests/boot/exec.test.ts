/**
 * `farbus run --exec` on the command line, in the guest that comes with Farbus: one boot, then
 * resumed from its snapshot.
 */
import { spawn } from 'node:child_process';
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { farbusFile } from '../interop/farbus.js';
import { tempFolder } from '../support/temp.js';

const folder = tempFolder();
const image = join(folder, 'd.img');
const snapshot = join(folder, 'guest.snapshot');

interface Ended {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

interface ExecInput {
  readonly input?: string | Buffer | null;
  readonly more?: string[];
  readonly drive?: string;
}

/** @param input input of the command; null: no input and no end of it */
function exec(command: string, { input = '', more = [] as string[], drive = image }: ExecInput = {}) {
  const args = ['run', '--quiet', '--drive', drive, '--snapshot', snapshot, ...more, '--exec', command];
  const child = spawn(process.execPath, [farbusFile, ...args], { env: { ...process.env, XDG_RUNTIME_DIR: folder } });
  const chunks: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  if (input !== null) child.stdin.end(input);
  const ended = new Promise<Ended>((resolve) =>
    child.once('close', (code) => {
      child.stdin.destroy();
      resolve({ code, stdout: Buffer.concat(chunks), stderr });
    }),
  );
  return { child, ended };
}

const said = async (...args: Parameters<typeof exec>) => {
  const { code, stdout, stderr } = await exec(...args).ended;
  return { code, stdout: stdout.toString(), stderr };
};

beforeAll(async () => {
  writeFileSync(image, new Uint8Array(1 << 20));
  expect(await said('true')).toEqual({ code: 0, stdout: '', stderr: '' });
}, 300_000);

describe('farbus run --snapshot', () => {
  it('continues with the disk that its guest has written, and refuses another disk at the same path in one line', async () => {
    const write = 'echo hello | dd of=/dev/nvme0n1 conv=fsync 2>/dev/null';
    expect(await said(write)).toEqual({ code: 0, stdout: '', stderr: '' });
    const hello = { code: 0, stdout: 'hello', stderr: '' };
    expect(await said('head -c 5 /dev/nvme0n1')).toEqual(hello);
    // A file with the same content and size takes the path.
    copyFileSync(image, `${image}.new`);
    renameSync(`${image}.new`, image);
    const refused = await said('head -c 5 /dev/nvme0n1');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(
      /^farbus: [^\n]*snapshot cannot be used: drive 0 is another disk: its file was replaced[^\n]*,assume-same[^\n]*\n$/,
    );
    expect(await said('head -c 5 /dev/nvme0n1', { drive: `${image},assume-same` })).toEqual(hello);
  }, 120_000);

  it('boots with a message and saves a new snapshot if a bit of the old one flipped', async () => {
    const bytes = readFileSync(snapshot);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(snapshot, bytes);
    const first = await said('echo hi');
    expect(first).toMatchObject({ code: 0, stdout: 'hi\n' });
    expect(first.stderr).toMatch(/^farbus: [^\n]*snapshot cannot be used: it is damaged; the guest boots[^\n]*\n$/);
    expect(await said('echo hi')).toEqual({ code: 0, stdout: 'hi\n', stderr: '' });
  }, 300_000);
});

describe('farbus run --exec', () => {
  it('ends with the status of a command that exits, or has an unbalanced quote', async () => {
    expect(await said('echo hi; exit 7')).toEqual({ code: 7, stdout: 'hi\n', stderr: '' });
    const unbalanced = await said("echo 'hi");
    expect(unbalanced.code).not.toBe(0);
    expect(unbalanced.stdout).toContain('unterminated');
  }, 120_000);

  it('accepts a long command and prints any bytes', async () => {
    const long = 'y'.repeat(6000);
    const { code, stdout } = await exec(`printf 'a\\r\\nb\\n\\000\\377'; printf %s '${long}' | wc -c`).ended;
    expect(code).toBe(0);
    expect(stdout).toEqual(Buffer.from('a\r\nb\n\0\xff6000\n', 'latin1'));
  }, 120_000);

  it('passes its input to the command, and the end of input', async () => {
    const bytes = Buffer.from(Uint8Array.from({ length: 3000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    expect((await exec('cat', { input: bytes }).ended).stdout.equals(bytes)).toBe(true);
    expect(await said('cat; echo end')).toEqual({ code: 0, stdout: 'end\n', stderr: '' });
    // A command that does not read ends even if its input stays open.
    expect(await said('echo quick', { input: null })).toEqual({ code: 0, stdout: 'quick\n', stderr: '' });
  }, 120_000);

  it('prints output as soon as it arrives', async () => {
    const { child, ended } = exec('echo first; read line; echo "then $line"', { input: null });
    await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
    child.stdin.end('more\n');
    expect((await ended).stdout.toString()).toBe('first\nthen more\n');
  }, 120_000);

  /** Each starts a guest; without FARBUS_TEST_ALL the last one does for all of them. */
  const endings: [string, string, RegExp][] = [
    ['a panic', 'echo c > /proc/sysrq-trigger', /the guest's kernel panicked: sysrq triggered crash/],
    ['a restart', 'reboot -f', /the guest asked for a restart before the command had ended/],
    ['power-off', 'poweroff -f', /the guest has halted before the command had ended/],
    ['the end of all shells', 'killall -9 sh', /the guest's shell ended before the command did/],
  ];
  it.each(process.env['FARBUS_TEST_ALL'] ? endings : endings.slice(-1))(
    'names the signal that ended it: %s',
    async (_, command, message) => {
      const { code, stderr } = await said(command);
      expect(code).toBe(1);
      expect(stderr).toMatch(message);
    },
    120_000,
  );

  it('ends with status 124 after --timeout, and 130 after Ctrl-C', async () => {
    const late = await said('echo begun; sleep 1000', { more: ['--timeout', '20'] });
    expect(late).toEqual({ code: 124, stdout: 'begun\n', stderr: expect.stringContaining('within 20 s') as string });
    const { child, ended } = exec('echo begun; sleep 1000');
    await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
  }, 120_000);
});
