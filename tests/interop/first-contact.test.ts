/** Plain mistakes of a newcomer are answered in one line that says what to do. */
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { processIo } from '../../src/cli/ui/io.js';
import { whileShown } from '../../src/cli/ui/progress.js';
import { tempFolder } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

let folder: string;
let disk: string;

beforeAll(() => {
  folder = tempFolder();
  disk = join(folder, 'd.img');
  writeFileSync(disk, '');
  truncateSync(disk, 1 << 20);
});

it('--version is the one of package.json, and not that of the last release', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect((await farbus('--version')).stdout).toBe(`farbus ${version}\n`);
  expect(version).not.toBe('0.1.0');
});

describe('one line says what to do', () => {
  it.each<[string, string[], string]>([
    [
      'about a target in a folder that is missing',
      ['copy', 'DISK', 'FOLDER/none/x.img'],
      'cannot open FOLDER/none/x.img: there is no such file, and no folder FOLDER/none: check the path, or make the folder',
    ],
    [
      'about an overlay in a folder that is missing',
      ['attach', 'DISK,overlay=FOLDER/none/o', '--', 'true', '{nbd}'],
      'cannot open FOLDER/none/o: there is no such file, and no folder FOLDER/none: check the path, or make the folder',
    ],
    [
      'about --listen with a port alone',
      ['serve', 'DISK', '--listen', '10809'],
      '--listen 10809: an address here is an NBD URI: write nbd://127.0.0.1:10809',
    ],
    [
      'about --listen with a host and a port',
      ['serve', 'DISK', '--listen', '[::1]:10809'],
      '--listen [::1]:10809: an address here is an NBD URI: write nbd://[::1]:10809',
    ],
    [
      'about a port that is too large',
      ['serve', 'DISK', '--listen', 'nbd+unix:///?socket=FOLDER/s', '--metrics', '99999'],
      '--metrics 99999: a port is a number from 0 to 65535',
    ],
    [
      'about an overlay that info would make',
      ['info', 'DISK,overlay=FOLDER/new'],
      'overlay=FOLDER/new: there is no such file, and farbus info makes none: leave it out',
    ],
    [
      'about a cache that info would make',
      ['info', 'DISK,cache=FOLDER/new'],
      'cache=FOLDER/new: there is no such file, and farbus info makes none: leave it out',
    ],
  ])('%s', async (_what, args, message) => {
    const filled = (text: string): string => text.replaceAll('DISK', disk).replaceAll('FOLDER', folder);
    const { code, stdout, stderr } = await farbus(...args.map(filled));
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: `farbus: ${filled(message)}\n` });
    expect(code).toBeGreaterThan(0);
    expect(existsSync(join(folder, 'new'))).toBe(false);
  });
});

it('status says that an export has one writer at a time', async () => {
  const server = startFarbus('serve', disk, '--one-writer', '--listen', `nbd+unix:///?socket=${join(folder, 's')}`);
  try {
    await vi.waitUntil(() => existsSync(join(folder, 's')), { timeout: 50_000 });
    expect((await farbus('status')).stdout).toContain('d.img: 1.0 MiB, writable, one writer at a time\n');
  } finally {
    server.child.kill('SIGTERM');
    await server.ended;
  }
});

describe('a command that waits', () => {
  const shown = async (isTTY: boolean, ms: number): Promise<string> => {
    vi.useFakeTimers();
    try {
      let text = '';
      const stderr = { isTTY, columns: 80, write: (part: string) => (text += part) };
      const io = { ...processIo(), stderr } as unknown as ReturnType<typeof processIo>;
      const work = whileShown(io, 'the guest boots', new Promise<void>((resolve) => setTimeout(resolve, ms)));
      await vi.advanceTimersByTimeAsync(ms);
      await work;
      return text;
    } finally {
      vi.useRealTimers();
    }
  };

  it('says so once after two seconds without a terminal, and never before', async () => {
    expect(await shown(false, 60_000)).toBe('farbus: the guest boots\n');
    expect(await shown(false, 1900)).toBe('');
  });

  it('counts on a terminal, and leaves the line empty', async () => {
    const text = await shown(true, 4200);
    expect(text).toContain('the guest boots, 4 s');
    expect(text.endsWith('\r\x1b[K')).toBe(true);
  });
});
