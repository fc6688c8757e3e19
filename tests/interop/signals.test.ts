/**
 * Ctrl-C and SIGTERM end any command immediately, whatever it does: fetching, unpacking, opening.
 * Nothing is left behind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tempFolder, tempPath } from '../support/temp.js';
import { startArchive, type TestArchive } from '../unit/guest-server.js';
import { farbusFile } from './farbus.js';

/**
 * An archive that begins each file and never continues, and a server that accepts connections and
 * stays silent.
 */
let archive: TestArchive;
const silent = createServer((socket) => socket.on('error', () => undefined));
const asked: (() => void)[] = [];
let silentUri = '';
const children: ChildProcess[] = [];

beforeAll(async () => {
  archive = await startArchive();
  archive.files.get = () => (response) => {
    response.writeHead(200);
    response.write('begun');
    for (const tell of asked.splice(0)) tell();
  };
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  silent.on('connection', () => asked.splice(0).forEach((tell) => tell()));
  silentUri = `nbd://127.0.0.1:${(silent.address() as AddressInfo).port}/x`;
});

afterAll(() => {
  silent.close();
  for (const child of children) child.kill('SIGKILL');
});

function files(folder: string): string[] {
  return existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() || entry.name.includes('demo-'))
        .map(({ name }) => name)
    : [];
}

interface Command {
  readonly child: ChildProcess;
  readonly cache: string;
  readonly ended: Promise<{ code: number | null; output: string }>;
}

function start(args: readonly string[], path?: string): Command {
  const cache = tempFolder();
  const child = spawn(process.execPath, [farbusFile, ...args], {
    cwd: cache,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PATH: path ?? process.env['PATH'],
      XDG_CACHE_HOME: cache,
      XDG_RUNTIME_DIR: cache,
      FARBUS_DEBIAN_MIRROR: archive.url,
    },
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<{ code: number | null; output: string }>((resolve) =>
    child.once('close', (code) => resolve({ code, output })),
  );
  return { child, cache, ended };
}

const reached = () => new Promise<void>((resolve) => asked.push(resolve));

const image = tempPath('d.img');
beforeAll(() => writeFileSync(image, new Uint8Array(1 << 20)));

const site = tempPath('site.yaml');
beforeAll(() =>
  writeFileSync(site, 'name: s\nsegments:\n  lan: {}\ncomputers:\n  desk:\n    role: client\n    network: lan\n'),
);

describe('a signal during the first download', () => {
  it.each([
    ['run', () => ['run', '--drive', image]],
    ['run --exec', () => ['run', '--drive', image, '--exec', 'true']],
    ['run --bios', () => ['run', '--bios', '--drive', image]],
    ['guest-disk', () => ['guest-disk', 'out.img']],
    ['demo', () => ['demo']],
    ['up', () => ['up', site]],
  ])(
    'ends farbus %s, and nothing is left',
    async (_, args) => {
      for (const [signal, status] of [
        ['SIGINT', 130],
        ['SIGTERM', 143],
      ] as const) {
        const began = reached();
        const { child, cache, ended } = start(args());
        await began;
        child.kill(signal);
        const { code, output } = await ended;
        expect(code, output).toBe(status);
        expect(output).not.toMatch(/error|stopped|interrupted/i);
        expect(files(cache)).toEqual([]);
      }
    },
    60_000,
  );
});

describe('a signal while a server does not answer', () => {
  it.each([
    ['run', () => ['run', '--drive', silentUri]],
    ['info', () => ['info', silentUri]],
    ['copy', () => ['copy', silentUri, 'to.img']],
    ['attach', () => ['attach', silentUri]],
    ['attach with a command', () => ['attach', silentUri, '--', 'echo', '{nbd}']],
    ['serve', () => ['serve', '--listen', 'nbd://127.0.0.1:0', silentUri]],
  ])(
    'ends farbus %s',
    async (_, args) => {
      const began = reached();
      const { child, ended } = start(args());
      await began;
      child.kill('SIGINT');
      const { code, output } = await ended;
      expect(code, output).toBe(130);
      expect(output).not.toMatch(/error|interrupted/i);
    },
    60_000,
  );
});

describe('a signal while a package is unpacked', () => {
  it('ends the program that unpacks, which prints nothing', async () => {
    // A program that reports the signals that it gets, and never ends.
    const bin = tempFolder();
    const mark = tempPath('pid');
    const script = `#!/bin/sh\necho $$ > ${mark}\ntrap 'echo interrupted >&2' INT TERM\nwhile :; do sleep 0.1; done\n`;
    writeFileSync(join(bin, 'zstd'), script);
    chmodSync(join(bin, 'zstd'), 0o755);
    const kernel = join(tempFolder(), 'bzImage');
    writeFileSync(kernel, zstdKernel());
    const { child, ended } = start(
      ['run', '--kernel', kernel, '--drive', image],
      `${bin}:${process.env['PATH'] ?? ''}`,
    );
    while (!existsSync(mark)) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGINT');
    const { code, output } = await ended;
    expect(code, output).toBe(130);
    expect(output).not.toMatch(/interrupted/);
  }, 60_000);
});

/** The smallest file that is accepted as a bzImage with a zstd payload. */
function zstdKernel(): Uint8Array {
  const file = new Uint8Array(0x1000);
  const view = new DataView(file.buffer);
  file[0x1f1] = 1;
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, 0x20c, true);
  view.setUint32(0x248, 0, true);
  view.setUint32(0x24c, 0x100, true);
  file.set([0x28, 0xb5, 0x2f, 0xfd], 0x400);
  view.setUint32(0x400 + 0x100 - 4, 4096, true);
  return file;
}
