/** Independent NBD clients of `farbus serve`. */
import { randomBytes } from 'node:crypto';
import { openSync, closeSync, ftruncateSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { farbusServe, run, stop, succeed, type Serving } from './nbd-target-farbus.js';

const folder = tempFolder();
const MiB = 1 << 20;
const size = 32 * MiB;

/** A sparse file with data at 4 MiB and at the end. */
function sparseFile(path: string): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  writeSync(fd, randomBytes(2 * MiB), 0, 2 * MiB, 4 * MiB);
  writeSync(fd, randomBytes(MiB), 0, MiB, size - MiB);
  closeSync(fd);
}

describe('farbus serve, to other clients', () => {
  const sparse = join(folder, 'sparse.img');
  const other = join(folder, 'other disk.img');
  const socket = join(folder, 'nbd.sock');
  let serving: Serving;
  let tcp: string;
  let unix: string;
  let scratch = 0;
  const file = () => join(folder, `scratch-${++scratch}.img`);

  beforeAll(async () => {
    sparseFile(sparse);
    writeFileSync(other, randomBytes(8 * MiB));
    const listen = ['--listen', 'nbd://127.0.0.1:0', '--listen', `nbd+unix:///?socket=${socket}`];
    serving = await farbusServe([...listen, sparse, `second=${other}`], 4);
    tcp = serving.lines[0]!;
    unix = serving.lines[2]!;
  });
  afterAll(async () => {
    expect(await stop(serving)).toBe(0);
    // The server logs one line for each broken client, one if its ending has to wait, and no other.
    for (const line of serving.errors().split('\n').filter(Boolean)) {
      expect(line).toMatch(/connection closed: it|^farbus: ending: waiting for requests in flight/);
    }
  });

  describe.skipIf(missing('nbdinfo'))('libnbd', () => {
    it('nbdinfo describes an export', async () => {
      for (const uri of [tcp, unix]) {
        const { exports } = JSON.parse(await succeed('nbdinfo', '--json', uri)) as {
          exports: Record<string, unknown>[];
        };
        expect(exports[0]).toMatchObject({
          'export-name': 'sparse.img',
          'export-size': size,
          is_read_only: false,
          can_flush: true,
          can_fua: true,
          can_multi_conn: true,
          can_zero: true,
          can_fast_zero: true,
          can_df: true,
          block_size_minimum: 1,
          block_size_maximum: 32 * MiB,
        });
      }
    });

    it('nbdinfo lists the exports', async () => {
      const server = tcp.slice(0, tcp.lastIndexOf('/'));
      const list = JSON.parse(await succeed('nbdinfo', '--list', '--json', server)) as {
        exports: Record<string, unknown>[];
      };
      expect(list.exports.map((one) => [one['export-name'], one['export-size']])).toEqual([
        ['sparse.img', size],
        ['second', 8 * MiB],
      ]);
    });

    it('nbdinfo maps the holes of a sparse file', async () => {
      const map = JSON.parse(await succeed('nbdinfo', '--map', '--json', tcp)) as {
        offset: number;
        type: number;
        length: number;
      }[];
      const dataBytes = map.filter(({ type }) => type === 0).reduce((sum, { length }) => sum + length, 0);
      expect(map.at(-1)!.offset + map.at(-1)!.length).toBe(size);
      expect(dataBytes).toBe(3 * MiB);
    });

    it('gives the first export to a client that names none, and none for a wrong name', async () => {
      const server = tcp.slice(0, tcp.lastIndexOf('/'));
      expect((await succeed('nbdinfo', '--size', server)).trim()).toBe(String(size));
      const wrong = await run('nbdinfo', `${server}/nowhere`);
      expect(wrong.code).not.toBe(0);
      expect(wrong.stderr).toContain('No such file or directory for export: nowhere');
    });

    it.each([
      ['one after the other', ['--synchronous']],
      ['over four connections', ['--connections=4', '--requests=32']],
      ['in large requests', ['--request-size=33554432']],
      ['in small ones', ['--request-size=4096', '--requests=64']],
    ])('nbdcopy reads and writes %s', async (_, options) => {
      for (const uri of [tcp, unix]) {
        const copy = file();
        await succeed('nbdcopy', ...options, uri, copy);
        expect(readFileSync(copy).equals(readFileSync(sparse))).toBe(true);
      }
      const source = file();
      writeFileSync(source, randomBytes(8 * MiB));
      const second = tcp.replace('sparse.img', 'second');
      await succeed('nbdcopy', ...options, '--flush', source, second);
      expect(readFileSync(other).equals(readFileSync(source))).toBe(true);
    });
  });

  describe.skipIf(missing('qemu-img'))('QEMU', () => {
    it('converts both ways and compares', async () => {
      const copy = file();
      await succeed('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', unix, copy);
      await succeed('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', tcp, copy);
      const source = file();
      writeFileSync(source, randomBytes(8 * MiB));
      const second = unix.replace('sparse.img', 'second');
      await succeed('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', '-W', '-m', '8', source, second);
      await succeed('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', second, source);
      expect(readFileSync(other).equals(readFileSync(source))).toBe(true);
    });

    it('maps the holes', async () => {
      const map = JSON.parse(await succeed('qemu-img', 'map', '--output=json', '-f', 'raw', tcp)) as {
        data: boolean;
        length: number;
      }[];
      const dataBytes = map.filter(({ data }) => data).reduce((sum, { length }) => sum + length, 0);
      expect(dataBytes).toBe(3 * MiB);
    });

    it('writes, reads, zeroes, discards and flushes', async () => {
      const second = tcp.replace('sparse.img', 'second');
      const commands = [
        'write -P 0x5a 1M 64k',
        'write -f -P 0xa5 2M 512',
        'read -P 0x5a 1M 64k',
        'read -P 0xa5 2M 512',
        'write -z 1M 32k',
        'write -z -u 1088k 4k',
        'read -P 0 1M 32k',
        'read -P 0x5a 1056k 32k',
        'discard 4M 1M',
        'flush',
        'aio_write -P 1 0 1M',
        'aio_write -P 2 3M 512k',
        'aio_flush',
        'read -P 1 0 1M',
      ].flatMap((command) => ['-c', command]);
      const output = await succeed('qemu-io', '-f', 'raw', ...commands, second);
      expect(output).not.toMatch(/fail|error|differ/i);
      const bytes = readFileSync(other);
      expect(bytes.subarray(2 * MiB, 2 * MiB + 512).every((byte) => byte === 0xa5)).toBe(true);
      expect(bytes.subarray(3 * MiB, 3 * MiB + 512 * 1024).every((byte) => byte === 2)).toBe(true);
    });
  });

  describe.skipIf(missing('fio'))('fio', () => {
    it.each([
      ['randwrite', '4k', 64],
      ['write', '1M', 8],
      ['randrw', '64k', 16],
    ])('verifies %s of %s at depth %i', async (rw, bs, depth) => {
      for (const uri of [tcp, unix].map((one) => one.replace('sparse.img', 'second'))) {
        await succeed(
          'fio',
          ...['--name=verify', '--ioengine=nbd', `--uri=${uri}`, `--rw=${rw}`, `--bs=${bs}`, `--iodepth=${depth}`],
          ...[
            '--size=8M',
            '--verify=crc32c',
            '--do_verify=1',
            '--verify_fatal=1',
            '--fsync=64',
            '--verify_state_save=0',
          ],
        );
      }
    });
  });

  it('continues when clients send nonsense or vanish', async () => {
    const port = Number(new URL(tcp).port);
    const closed: Promise<void>[] = [];
    for (let i = 0; i < 20; i++) {
      const client = connect({ host: '127.0.0.1', port });
      closed.push(new Promise((resolve) => client.once('close', () => resolve())));
      client.on('error', () => undefined);
      client.on('data', () => undefined);
      if (i % 2) client.end(randomBytes(1000 * i));
      else client.write(randomBytes(100), () => client.destroy());
    }
    await Promise.all(closed);
    expect((await succeed('nbdinfo', '--size', tcp)).trim()).toBe(String(size));
  });
});
