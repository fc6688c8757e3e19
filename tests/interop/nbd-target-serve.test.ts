/** `farbus serve` as a command: its output, its errors, its end. */
import { existsSync, mkdirSync, openSync, closeSync, ftruncateSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { infoData, optionBytes, requestBytes, join as joined } from '../unit/nbd-target-peer.js';
import { farbusOnce, farbusServe, run, stop, succeed } from './nbd-target-farbus.js';
import { u32 } from '../support/numbers.js';

const MiB = 1 << 20;

function image(folder: string, name = 'disk.img', size = MiB): string {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(size));
  return path;
}

describe('farbus serve', () => {
  it('prints an address for each export and listener when it is ready', async () => {
    const folder = tempFolder();
    const socket = join(folder, 'a b.sock');
    const paths = [image(folder), `möbel=${image(folder, 'other.img')}`];
    const unix = `nbd+unix:///?socket=${encodeURIComponent(socket)}`;
    const serving = await farbusServe([...paths, '--listen', 'nbd://127.0.0.1:0', '--listen', unix], 4);
    expect(serving.lines[0]).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/disk\.img$/);
    expect(serving.lines[1]).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/m%C3%B6bel$/);
    expect(serving.lines[2]).toBe(`nbd+unix:///disk.img?socket=${encodeURIComponent(socket).replaceAll('%2F', '/')}`);
    expect(existsSync(socket)).toBe(true);
    expect(await stop(serving)).toBe(0);
    expect(existsSync(socket)).toBe(false);
    expect(serving.errors()).toBe('');
  });

  it('prints JSON for scripts', async () => {
    const folder = tempFolder();
    const path = image(folder);
    const options = [
      '--listen',
      'nbd://127.0.0.1:0',
      '--json',
      '--read-only',
      '--name',
      'x',
      '--description',
      'my disk',
    ];
    const serving = await farbusServe([path, ...options]);
    const { listening, exports } = JSON.parse(serving.lines[0]!) as {
      listening: string[];
      exports: Record<string, unknown>[];
    };
    expect(listening).toHaveLength(1);
    expect(exports).toEqual([
      { name: 'x', description: 'my disk', size: MiB, readOnly: true, uris: [`${listening[0]!.replace(/\/$/, '')}/x`] },
    ]);
    expect(await stop(serving)).toBe(0);
  });

  it('prints its help', async () => {
    const { code, stdout } = await farbusOnce('--help');
    expect(code).toBe(0);
    for (const option of ['--listen', '--read-only', '--name', '--description', '--json', 'Examples:']) {
      expect(stdout).toContain(option);
    }
  });

  describe('reports errors in one line', () => {
    const folder = tempFolder();
    const path = image(folder);
    mkdirSync(join(folder, 'sub'));
    const twin = image(join(folder, 'sub'));
    const cases: [string, string[], number, RegExp][] = [
      ['nothing to serve', [], 2, /Give a file/],
      ['an unknown option', ['--frob', path], 2, /frob.*--help/],
      ['a missing value', [path, '--listen'], 2, /listen/],
      ['a missing file', [join(folder, 'none.img')], 1, /none\.img.*no such file/],
      ['a folder', [folder], 1, /folder/],
      ['a character device', ['/dev/full'], 1, /character device/],
      ['two of one name', [path, twin], 2, /NAME=SOURCE/],
      ['two given names that are one', [`a=${path}`, `a=${twin}`], 2, /NAME=SOURCE/],
      ['a name for two', [path, twin, '--name', 'x'], 2, /--name/],
      ['two names for one', [`a=${path}`, '--name', 'x'], 2, /--name/],
      ['no URI', [path, '--listen', '127.0.0.1:99'], 2, /write nbd:\/\/127\.0\.0\.1:99/],
      ['a wrong port', [path, '--listen', 'nbd://127.0.0.1:99999'], 2, /port/],
      ['another scheme', [path, '--listen', 'http://127.0.0.1'], 2, /nbd:\/\/HOST/],
      ['TLS in the URI', [path, '--listen', 'nbds://127.0.0.1'], 2, /--tls-certificates/],
      ['TLS without keys', [path, '--tls', 'on'], 2, /--tls-certificates FOLDER/],
      ['another kind of TLS', [path, '--tls', 'yes'], 2, /require, on or off/],
      ['two kinds of keys', [path, '--tls-certificates', folder, '--tls-psk', path], 2, /exclude/],
      [
        'certificates that are not there',
        [path, '--tls-certificates', folder],
        1,
        /server-cert\.pem: there is no such/,
      ],
      ['keys that are none', [path, '--tls-psk', path], 1, /USER:KEY/],
      ['clients without certificates to check', [path, '--tls-psk', path, '--tls-verify-peer'], 2, /certificates/],
      ['a name in the URI', [path, '--listen', 'nbd://127.0.0.1:0/x'], 2, /NAME=SOURCE/],
      ['a unix socket without a path', [path, '--listen', 'nbd+unix:///'], 2, /socket/],
      ['an abstract socket', [path, '--listen', 'nbd+unix:///?socket=%00x'], 2, /abstract/],
      ['a path too long for a socket', [path, '--listen', `nbd+unix:///?socket=/tmp/${'x'.repeat(120)}`], 2, /107/],
      [
        'a socket in a folder that is not there',
        [path, '--listen', `nbd+unix:///?socket=${folder}/no/x`],
        1,
        /folder|denied/,
      ],
      ['a foreign address', [path, '--listen', 'nbd://192.0.2.1:0'], 1, /address/],
      ['a name too long', [path, '--name', 'x'.repeat(5000)], 1, /4096/],
    ];
    it.each(cases)('%s', async (_, args, code, message) => {
      const listen = args.includes('--listen') ? [] : ['--listen', 'nbd://127.0.0.1:0'];
      const result = await farbusOnce(...listen, ...args);
      expect(result.stderr).toMatch(message);
      expect(result.stderr).toMatch(/^farbus: [^\n]+\n$/);
      expect(result.code).toBe(code);
      expect(result.stdout).toBe('');
    });

    it('a port in use', async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      const result = await farbusOnce(path, '--listen', `nbd://127.0.0.1:${port}`);
      expect(result).toMatchObject({ code: 1, stdout: '' });
      expect(result.stderr).toMatch(/^farbus: cannot listen on 127.0.0.1:\d+: it is in use: [^\n]+another place\n$/);
      server.close();
    });
  });

  describe('and unix sockets', () => {
    const folder = tempFolder();
    const path = image(folder);

    it('replaces one that a killed server left behind', async () => {
      const socket = join(folder, 'left.sock');
      const listen = ['--listen', `nbd+unix:///?socket=${socket}`];
      const first = await farbusServe([path, ...listen]);
      first.child.kill('SIGKILL');
      await first.ended;
      expect(existsSync(socket)).toBe(true);
      const second = await farbusServe([path, ...listen]);
      expect(await stop(second)).toBe(0);
      expect(existsSync(socket)).toBe(false);
    });

    it('never takes a socket from a running server', async () => {
      const socket = join(folder, 'live.sock');
      const listen = ['--listen', `nbd+unix:///?socket=${socket}`];
      const first = await farbusServe([path, ...listen]);
      // Read-only, so that it fails because of the socket, not because of the locked file.
      const second = await farbusOnce(path, '--read-only', ...listen);
      expect(second.code).toBe(1);
      expect(second.stderr).toContain('in use');
      await new Promise<void>((resolve, reject) => {
        const client = connect(socket, () => (client.destroy(), resolve()));
        client.once('error', reject);
      });
      expect(await stop(first)).toBe(0);
    });

    it('never removes a file that is not a socket', async () => {
      const file = join(folder, 'precious');
      writeFileSync(file, 'content');
      const result = await farbusOnce(path, '--listen', `nbd+unix:///?socket=${file}`);
      expect(result.code).toBe(1);
      expect(readFileSync(file, 'utf8')).toBe('content');
    });
  });

  describe('ends', () => {
    /** A connection that has entered transmission. */
    async function client(uri: string): Promise<Socket> {
      const { hostname, port } = new URL(uri);
      const socket = connect({ host: hostname, port: Number(port) });
      await new Promise((resolve) => socket.once('data', resolve));
      socket.write(joined([u32(3), optionBytes(7, infoData('', []))]));
      await new Promise((resolve) => socket.once('data', resolve));
      return socket;
    }

    it('by SIGTERM and by SIGINT, though clients are connected', async () => {
      const folder = tempFolder();
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        const serving = await farbusServe([image(folder), '--listen', 'nbd://127.0.0.1:0']);
        const socket = await client(serving.lines[0]!);
        const closed = new Promise((resolve) => socket.once('close', resolve));
        serving.child.kill(signal);
        expect(await serving.ended).toEqual({ code: 0, signal: null });
        await closed;
      }
    });

    it('ends with every acknowledged write in the file', async () => {
      const path = image(tempFolder());
      const serving = await farbusServe([path, '--listen', 'nbd://127.0.0.1:0']);
      const socket = await client(serving.lines[0]!);
      const data = new Uint8Array(65536).fill(0x77);
      let acknowledged = 0;
      socket.on('data', (chunk: Buffer) => (acknowledged += chunk.length / 16));
      const closed = new Promise((resolve) => socket.once('close', resolve));
      for (let i = 0; i < 16; i++)
        socket.write(requestBytes({ command: 1, offset: i * 65536, data, cookie: BigInt(i) }));
      while (acknowledged < 16) await new Promise((resolve) => socket.once('data', resolve));
      serving.child.kill('SIGTERM');
      await closed;
      expect((await serving.ended).code).toBe(0);
      expect(readFileSync(path).every((byte) => byte === 0x77)).toBe(true);
    });
  });

  it.skipIf(missing('nbdcopy'))('stays small while a client streams', async () => {
    const folder = tempFolder();
    const path = join(folder, 'big.img');
    const fd = openSync(path, 'w');
    ftruncateSync(fd, 1024 * MiB);
    closeSync(fd);
    const serving = await farbusServe([path, '--listen', 'nbd://127.0.0.1:0']);
    const options = ['--request-size=1048576', '--requests=16', '--connections=1', '--no-extents'];
    await succeed('nbdcopy', ...options, serving.lines[0]!, 'null:');
    const status = readFileSync(`/proc/${serving.child.pid}/status`, 'utf8');
    const peakKiB = Number(/VmHWM:\s+(\d+)/.exec(status)![1]);
    expect(peakKiB).toBeLessThan(120 * 1024);
    expect(await stop(serving)).toBe(0);
  });

  it.skipIf(missing('qemu-io'))('refuses every write to a read-only export', async () => {
    const folder = tempFolder();
    const path = image(folder);
    const serving = await farbusServe([path, '--read-only', '--listen', 'nbd://127.0.0.1:0']);
    const result = await run('qemu-io', '-f', 'raw', '-c', 'write 0 4k', serving.lines[0]!);
    expect(result.code).not.toBe(0);
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
    expect(await stop(serving)).toBe(0);
  });
});
