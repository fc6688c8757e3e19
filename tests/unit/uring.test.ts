/**
 * Reads by io_uring: they return the file's bytes, in the page cache or not, and a process can
 * still end.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants as modes,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { seededRandom } from '../../src/base/random.js';
import { readThroughRing } from '../../src/storage/transfer.node.js';
import { Uring } from '../../src/storage/uring.node.js';

const size = 8 << 20;
/** Random integers below a limit, the same sequence in each run. */
const numbers = (seed: number): ((limit: number) => number) => {
  const random = seededRandom(seed);
  return (limit) => Math.floor(random() * limit);
};
const ring = Uring.here();
if (!ring) console.warn('SKIPPED: this kernel does not let processes have io_uring, or koffi is not installed');

describe.skipIf(!ring)('reads by io_uring', () => {
  const folder = mkdtempSync(join(tmpdir(), 'farbus-uring-'));
  const path = join(folder, 'file');
  let content: Buffer;
  let fd: number;

  beforeAll(() => {
    const random = numbers(7);
    content = Buffer.alloc(size);
    for (let i = 0; i < size; i += 4) content.writeUInt32LE(random(0x1_0000_0000), i);
    writeFileSync(path, content, { flush: true });
    fd = openSync(path, 'r+');
  });

  afterAll(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  /** Drops the file from the page cache. */
  const forget = (): Buffer => execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);

  const read = (into: Uint8Array, offset: number, from = fd): Promise<number> =>
    new Promise((resolve, reject) => {
      if (!ring!.read(from, into, offset, resolve)) reject(new Error('not taken'));
    });

  it.each([false, true])('are right, from the disk and from the page cache (%s)', async (cached) => {
    if (!cached) forget();
    const random = numbers(11);
    for (let round = 0; round < 8; round++) {
      const reads = Array.from({ length: 200 }, async () => {
        const length = 256 + random(40_000);
        const offset = random(size - length);
        const into = new Uint8Array(length);
        expect(await read(into, offset)).toBe(length);
        expect(content.compare(into, 0, length, offset, offset + length)).toBe(0);
      });
      await Promise.all(reads);
    }
  });

  it('are refused while too many are in flight, and accepted again later', async () => {
    // A read from a pipe stays in flight until the pipe is written.
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const both = openSync(pipe, modes.O_RDWR);
    try {
      const results = Array.from({ length: 300 }, () => read(new Uint8Array(256), 0, both));
      const refused = await Promise.allSettled(results.slice(256));
      expect(refused.every(({ status }) => status === 'rejected')).toBe(true);
      writeSync(both, new Uint8Array(256 * 256));
      expect(await Promise.all(results.slice(0, 256))).toEqual(new Array(256).fill(256));
    } finally {
      closeSync(both);
    }
    expect(await read(new Uint8Array(4096), 0)).toBe(4096);
  });

  it('end where the file ends, and report errors', async () => {
    expect(await read(new Uint8Array(4096), size - 1000)).toBe(1000);
    expect(await read(new Uint8Array(4096), size + 4096)).toBe(0);
    expect(await read(new Uint8Array(4096), 0, 99_999)).toBe(-constants.errno.EBADF);
    expect(ring!.read(fd, new Uint8Array(16), 0, () => undefined)).toBe(false);
  });

  it('return no made-up data if the file has become shorter', async () => {
    const short = join(folder, 'short');
    writeFileSync(short, content.subarray(0, 65_536));
    const descriptor = openSync(short, 'r+');
    try {
      truncateSync(short, 10_000);
      const whole = readThroughRing(ring!, descriptor, 4096, buffersOf(new Uint8Array(8192)));
      await expect(whole).rejects.toThrow('the file does not reach byte 10000');
      expect(await readThroughRing(ring!, descriptor, 0, buffersOf(new Uint8Array(8192)))).toBe(true);
    } finally {
      closeSync(descriptor);
    }
  });

  it('keep the process alive until they have ended, and no longer', () => {
    const module = new URL('../../dist/storage/uring.node.js', import.meta.url).href;
    const script = `
      import { openSync } from 'node:fs';
      import { Uring } from ${JSON.stringify(module)};
      const into = new Uint8Array(65536);
      Uring.here().read(openSync(${JSON.stringify(path)}, 'r'), into, 4096, (n) => process.stdout.write(n + ' ' + into[5]));
    `;
    forget();
    const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 20_000 }).toString();
    expect(out).toBe(`65536 ${readFileSync(path)[4096 + 5]}`);
  });
});
