/**
 * The command line for people: help; and for everything malformed one line, an exit status, and no
 * stack trace.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { tempFolder } from '../support/temp.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

function farbus(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['bin/farbus.js', ...args], {
    cwd: root,
    encoding: 'utf8',
    timeout: 60_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return { status, stdout, stderr };
}

describe('help', () => {
  it('exists for the command and each subcommand, with examples', () => {
    expect(farbus('--help')).toMatchObject({ status: 0, stderr: '' });
    for (const command of /Commands:\n([^]*?)\n\n/.exec(farbus('--help').stdout)![1]!.matchAll(/^ {2}([\w-]+)/gm)) {
      const { status, stdout } = farbus(command[1]!, '--help');
      expect(status).toBe(0);
      expect(stdout).toContain(`farbus ${command[1]!}`);
      expect(stdout).toMatch(/Usage/);
    }
    expect(farbus('--version').stdout).toMatch(/^farbus \d+\.\d+\.\d+(-dev)?\n$/);
  });
});

describe('an impossible site', () => {
  it('is refused with file and line, and nothing is started or made', () => {
    const folder = tempFolder();
    const site = join(folder, 'site.yaml');
    writeFileSync(
      site,
      'segments: { lan: {} }\ncomputers:\n  s: { role: server, network: lan, devices: { d: { source: memory:1M } } }\n' +
        '  c: { role: client, network: wan, drives: [{ far: s/d }] }\n',
    );
    const env = { ...process.env, XDG_RUNTIME_DIR: join(folder, 'run'), XDG_STATE_HOME: join(folder, 'state') };
    for (const more of [[], ['--detach'], ['--check']]) {
      const { status, stdout, stderr } = spawnSync(process.execPath, ['bin/farbus.js', 'up', site, ...more], {
        cwd: root,
        env,
        encoding: 'utf8',
        timeout: 60_000,
      });
      expect(stderr).toBe('farbus: site.yaml:4: computers.c: network: there is no segment wan; segments are: lan\n');
      expect([status, stdout]).toEqual([2, '']);
    }
    expect(existsSync(join(folder, 'state'))).toBe(false);
    expect(existsSync(join(folder, 'run'))).toBe(false);
  });
});

describe('malformed input', () => {
  const folder = tempFolder();
  const file = (name: string, content: string | Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };
  const image = file('disk.img', '');
  truncateSync(image, 1 << 20);
  mkdirSync(join(folder, 'folder'));

  it.each([
    [2, 'no command', []],
    [2, 'unknown command', ['frobnicate']],
    [2, 'unknown option', ['run', '--frobnicate']],
    [2, 'a value that is missing', ['run', '--drive']],
    [2, 'a number that is none', ['run', '--reconnect', 'soon']],
    [2, 'too little memory', ['run', '--memory', '3M']],
    [2, 'an argument that is no option', ['run', 'disk.img']],
    [2, 'an unknown kind of source', ['run', '--drive', 'gopher://host/disk']],
    [2, 'a drive without a source', ['run', '--drive', ',read-only']],
    [2, 'options of a drive that exclude each other', ['run', '--drive', `${image},read-only,overlay=x`]],
    [2, 'an NBD URI with a bad port', ['run', '--drive', 'nbd://host:99999/x']],
    [2, 'an NBD URI without its socket', ['run', '--drive', 'nbd+unix:///x']],
    [2, 'keys for a server without TLS', ['run', '--drive', 'nbd://host/x?tls-certificates=/pki']],
    [1, 'certificates that are missing', ['run', '--drive', `nbds://host/x?tls-certificates=${join(folder, 'pki')}`]],
    [1, 'a server that refuses', ['run', '--drive', 'nbd://127.0.0.1:1/x']],
    [1, 'a file that is missing', ['run', '--drive', join(folder, 'missing.img')]],
    [1, 'a folder for a disk', ['run', '--drive', join(folder, 'folder')]],
    [1, 'an empty file for a disk', ['run', '--quiet', '--drive', file('empty.img', '')]],
    [1, 'a kernel that is none', ['run', '--kernel', file('kernel', 'x'.repeat(5000))]],
    [1, 'a kernel that is missing', ['run', '--kernel', join(folder, 'missing')]],
    [1, 'an initramfs that is missing', ['run', '--initrd', join(folder, 'missing')]],
    [1, 'a snapshot that is none', ['run', '--snapshot', file('a.snap', 'hello'), '--exec', 'true']],
    [1, 'an overlay that is none', ['run', '--drive', `${image},overlay=${file('o.img', 'x'.repeat(9000))}`]],
    [2, 'nothing to serve', ['serve']],
    [1, 'a path that is missing', ['serve', join(folder, 'missing.img')]],
    [2, 'an address that is none', ['serve', image, '--listen', 'http://x']],
    [2, 'two exports of one name', ['serve', image, image]],
  ])('exits with %i and one line: %s', (status, _what, args) => {
    const result = farbus(...args);
    expect(result.status, result.stderr).toBe(status);
    if (args.length === 0) return;
    expect(result.stderr).toMatch(/^farbus: [^\n]{10,400}\n$/);
    expect(result.stderr).not.toMatch(/\n\s+at |internal error/);
    expect(result.stdout).toBe('');
  });

  it('a port that is taken', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const result = farbus('serve', image, '--listen', `nbd://127.0.0.1:${port}`);
    await new Promise((resolve) => other.close(resolve));
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/^farbus: [^\n]+\n$/);
  });
});

describe('the package', () => {
  it('is a command and a library', () => {
    expect(readFileSync(join(root, 'bin/farbus.js'), 'utf8')).toMatch(/^#!\/usr\/bin\/env node/);
    const script = `
      import { MemoryDevice, buffersOf } from 'farbus';
      import { openPath } from 'farbus/node';
      const disk = new MemoryDevice(4096);
      await disk.write(512, buffersOf(new Uint8Array(512).fill(7)));
      const bytes = new Uint8Array(512);
      await disk.read(512, buffersOf(bytes));
      console.log(bytes[0], typeof openPath);`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(output).toBe('7 function\n');
  });
});
