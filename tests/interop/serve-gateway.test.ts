/**
 * `farbus serve` as a gateway: another server's export, and an overlay on it, used by an
 * independent client.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';

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
