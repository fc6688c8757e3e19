/**
 * SOURCE[,FILTER]… and filter options as people write them: parts of a target, typing errors,
 * duplicates.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { missing } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { farbus } from './farbus.js';

const MiB = 1 << 20;

function image(size: number): { path: string; bytes: Buffer } {
  const path = tempPath('disk.img');
  const bytes = Buffer.from(new Random(size).bytes(size));
  writeFileSync(path, bytes);
  return { path, bytes };
}

describe('the target of a copy', () => {
  it.skipIf(missing('sfdisk'))('may be a partition of a disk that is there', async () => {
    const part = image(2 * MiB);
    const disk = tempPath('d.img');
    writeFileSync(disk, Buffer.alloc(8 * MiB));
    execFileSync('sfdisk', ['--quiet', disk], { input: '2048,2M\n6144,2M\n' });
    const { code, stderr } = await farbus('copy', part.path, `${disk},partition=2`, '--verify');
    expect(stderr).toMatch(/verified/);
    expect(code).toBe(0);
    expect(
      readFileSync(disk)
        .subarray(3 * MiB, 5 * MiB)
        .equals(part.bytes),
    ).toBe(true);
    expect(readdirSync(dirname(disk))).toEqual(['d.img']);
  });

  it('is not made if its name ends like a filter', async () => {
    const { path } = image(MiB);
    const to = tempPath('to.img');
    for (const end of [',partition=2', ',partiton=2', ',offset', ',read-only=yes', ',colour=red']) {
      const { code, stderr } = await farbus('copy', path, to + end);
      expect(stderr, end).toMatch(/^farbus: [^\n]*\n$/);
      expect(code, end).not.toBe(0);
    }
    expect(readdirSync(dirname(to))).toEqual([]);
    expect((await farbus('copy', path, `${to},old`, '--quiet')).code).toBe(0);
  });
});

describe('a misspelling', () => {
  it('of an address is reported with the address that was probably meant', async () => {
    for (const [text, meant] of [
      ['nbd:/127.0.0.1/x', 'nbd://127.0.0.1/x'],
      ['nbd//127.0.0.1/x', 'nbd://127.0.0.1/x'],
      ['https:/host/x.img', 'https://host/x.img'],
      ['127.0.0.1:10809', 'nbd://127.0.0.1:10809'],
      ['localhost:10809/x', 'nbd://localhost:10809/x'],
    ] as const) {
      const { code, stderr } = await farbus('info', text);
      expect(stderr).toMatch(/^farbus: cannot open [^\n]*\n$/);
      expect(stderr).toContain(`; for a server write ${meant}\n`);
      expect(code).toBe(2);
    }
    expect((await farbus('info', './nbd.img')).stderr).not.toContain('for a server');
  });

  it('in a filter is reported with the filter that was probably meant', async () => {
    const { path } = image(MiB);
    for (const [end, hint] of [
      ['overly=x', 'there is no filter overly: did you mean overlay?'],
      ['read-olny', 'there is no filter read-olny: did you mean read-only?'],
      ['overlay', ',overlay needs a value'],
      ['readahead=yes', ',readahead takes no value'],
      ['colour=red', 'there is no filter colour'],
      ['overly=x,read-only', 'did you mean overlay?'],
    ] as const) {
      const { code, stderr } = await farbus('info', `${path},${end}`);
      expect(stderr).toContain(hint);
      expect(stderr).toMatch(/^farbus: [^\n]*\n$/);
      expect(code).toBe(2);
    }
  });
});

describe('a filter that is given twice', () => {
  it('is refused, because it is ambiguous', async () => {
    const { path } = image(MiB);
    const [a, b] = [tempPath('a'), tempPath('b')];
    for (const args of [
      ['info', `${path},offset=0,offset=512`],
      ['info', path, '--offset', '0', '--offset=512'],
      ['attach', `${path},overlay=${a},overlay=${b}`],
      ['attach', path, '--overlay', a, '--overlay', b],
      ['run', '--drive', `${path},bus=ahci,bus=nvme`],
      ['run', '--drive', `${path},cdrom,removable`],
      ['copy', path, a, '--jobs', '1', '--jobs', '2'],
    ]) {
      const { code, stderr } = await farbus(...args);
      expect(stderr, args.join(' ')).toMatch(/^farbus: [^\n]* is given twice: give it once\n$/);
      expect(code).toBe(2);
    }
    expect(existsSync(a) || existsSync(b)).toBe(false);
  });
});

it('an offset at or behind the end leaves nothing, and no file is made', async () => {
  const { path } = image(MiB);
  const to = tempPath('to.img');
  for (const offset of ['1M', '2M']) {
    const { code, stderr } = await farbus('copy', path, to, '--offset', offset);
    expect(stderr).toMatch(/^farbus: offset \d+ leaves nothing: the device has 1048576 bytes\n$/);
    expect(code).toBe(1);
  }
  expect(existsSync(to)).toBe(false);
});
