/**
 * Names and texts from servers, clients and disks must not reach a terminal unfiltered, for example
 * escape sequences.
 */
import { createServer, type AddressInfo } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { HostileNbd } from '../support/hostile-nbd.js';
import { tempFolder } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

const hidden = /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}]/u;

/** A FAT16 file system with this volume label, as far as the probe reads it. */
function fat(label: string): Uint8Array {
  const bytes = Buffer.alloc(16 << 20);
  bytes.set([0xeb, 0x3c, 0x90], 0);
  bytes.write('mkfs.fat', 3);
  bytes.writeUInt16LE(512, 11);
  bytes.set([4, 4, 0, 2, 0, 2, 0, 0, 0xf8, 32, 0], 13);
  bytes.writeUInt32LE(32768, 32);
  bytes.writeUInt16LE(32768, 19);
  bytes[38] = 0x29;
  bytes.write(label.padEnd(11).slice(0, 11), 43, 'latin1');
  bytes.write('FAT16   ', 54);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

describe('hidden characters from others', () => {
  const servers: HostileNbd[] = [];
  afterAll(() => Promise.all(servers.map((server) => server.stop())));

  it('in a message of an NBD server are not printed', async () => {
    const server = await HostileNbd.start('words');
    servers.push(server);
    const { code, stderr, stdout } = await farbus('copy', server.uri, join(tempFolder(), 'to.img'), '--reconnect', '0');
    expect(code).toBe(1);
    expect(stderr).toContain('[31m');
    expect(stderr + stdout).not.toMatch(hidden);
    expect(stderr.length).toBeLessThan(2000);
  });

  it('in the label of a disk are not printed, nor in JSON', async () => {
    const path = join(tempFolder(), 'disk.img');
    writeFileSync(path, fat('A\x1b[2J\x9b31mZ'));
    for (const option of [[], ['--json']]) {
      const { code, stdout, stderr } = await farbus('info', path, ...option);
      expect(code).toBe(0);
      expect(stdout).toContain('[2J');
      expect(stdout + stderr).not.toMatch(hidden);
    }
  });

  it('in an export name of a client are not logged', async () => {
    const path = join(tempFolder(), 'disk.img');
    writeFileSync(path, new Uint8Array(1 << 20));
    const server = startFarbus('serve', path, '--listen', 'nbd://127.0.0.1:0');
    const [uri] = await server.printed(/nbd:\S+/);
    const { code, stderr } = await farbus('info', uri.replace(/\/[^/]*$/, '/%1B%5B2J%E2%80%AEx'));
    expect(code).toBe(1);
    expect(stderr).not.toMatch(hidden);
    server.child.kill('SIGTERM');
    await server.ended;
    expect(server.stderr()).not.toMatch(hidden);
  });

  it('in the name of a file that is served are not shown by farbus status, nor in JSON', async () => {
    const path = join(tempFolder(), 'a\x1b[2J\u009b31m\u202eb.img');
    writeFileSync(path, new Uint8Array(1 << 20));
    const before = process.env['XDG_RUNTIME_DIR'];
    process.env['XDG_RUNTIME_DIR'] = tempFolder();
    try {
      const server = startFarbus('serve', path, '--listen', 'nbd://127.0.0.1:0');
      await server.printed(/nbd:/);
      for (const option of [[], ['--json']]) {
        const { code, stdout, stderr } = await farbus('status', ...option);
        expect(code).toBe(0);
        expect(stdout).toContain('[2J');
        expect(stdout + stderr).not.toMatch(hidden);
      }
      server.child.kill('SIGTERM');
      await server.ended;
      expect(server.stdout() + server.stderr()).not.toMatch(hidden);
    } finally {
      if (before === undefined) delete process.env['XDG_RUNTIME_DIR'];
      else process.env['XDG_RUNTIME_DIR'] = before;
    }
  });

  it('from a program that is no NBD server are not printed', async () => {
    const other = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('\x1b[31m\u202eSSH-2.0-x\r\n'.repeat(100));
    });
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { stderr } = await farbus('info', `nbd://127.0.0.1:${(other.address() as AddressInfo).port}/`);
    expect(stderr).not.toMatch(hidden);
    await new Promise((resolve) => other.close(resolve));
  });
});
