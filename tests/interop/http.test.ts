/** Objects on web servers as disks (src/storage/http): nginx, and servers that fail or lie. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import type { BlockDevice } from '../../src/block/device.js';
import { ObjectServer, rangeOf, type HttpFault } from '../support/http-server.js';
import { Random } from '../../src/conformance/random.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus } from './farbus.js';

const content = randomBytes(3_000_001);
const log = { lines: [] as string[], log: (_level: string, line: string) => void log.lines.push(line) };
const closing: (() => Promise<unknown>)[] = [];

async function start(fault?: HttpFault): Promise<ObjectServer> {
  const server = await ObjectServer.start(content);
  if (fault) server.fault = fault;
  closing.push(() => server.stop());
  return server;
}

async function open(url: string, reconnectSeconds = 20): Promise<BlockDevice> {
  const device = await openSource(parseSource(url), { log, reconnectSeconds });
  closing.unshift(() => device.close());
  return device;
}

async function read(device: BlockDevice, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await device.read(offset, bytes);
  return bytes;
}

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  log.lines.length = 0;
});

describe('an object on nginx', () => {
  const folder = tempFolder();
  let url = '';

  beforeAll(async () => {
    mkdirSync(join(folder, 'www'));
    writeFileSync(join(folder, 'www/disk.img'), content);
    const port = await freePort();
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((n) => `${n}_temp_path ${folder}/${n};`);
    // Root's workers would be of a user who may not look into the folder.
    const rootToo = process.getuid?.() === 0 ? 'user root; ' : '';
    const server = `listen 127.0.0.1:${port}; root ${folder}/www; location /far { return 302 /disk.img; }`;
    writeFileSync(
      join(folder, 'nginx.conf'),
      `${rootToo}daemon off; pid ${folder}/pid; events {} http { access_log off; ${paths.join(' ')} server { ${server} } }`,
    );
    const nginx = spawn('nginx', ['-c', join(folder, 'nginx.conf'), '-e', join(folder, 'error.log')], {
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
      stdio: 'ignore',
    });
    process.once('exit', () => nginx.kill());
    url = `http://127.0.0.1:${port}`;
    for (let tries = 0; tries < 100; tries++) {
      if (await fetch(`${url}/disk.img`, { method: 'HEAD' }).catch(() => undefined)) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return () => nginx.kill();
  });

  it('has its length and its bytes at any place, and takes no write', async () => {
    const device = await open(`${url}/disk.img`);
    expect(device.info).toMatchObject({ size: content.length, readOnly: true });
    const random = new Random(7);
    for (let step = 0; step < 200; step++) {
      const length = 1 + random.below(random.chance(0.1) ? 1_500_000 : 5000);
      const offset = random.below(content.length - length);
      expect((await read(device, offset, length)).equals(content.subarray(offset, offset + length))).toBe(true);
    }
    await expect(device.write(0, Buffer.alloc(512))).rejects.toMatchObject({ kind: 'read-only' });
  });

  it('is copied whole through a redirect', async () => {
    const to = tempPath('copy.img');
    const { code, stderr } = await farbus('copy', `${url}/far`, to, '--verify', '--quiet');
    expect([code, stderr]).toEqual([0, '']);
    expect(readFileSync(to).equals(content)).toBe(true);
  });

  it('boots nothing that does not exist: the errors name the address and end the command', async () => {
    const { code, stderr } = await farbus('info', `${url}/none?key=SECRET`);
    expect([code, stderr]).toEqual([1, `farbus: cannot open ${url}/none?...: there is no such object (status 404)\n`]);
  });

  it('is the base of an overlay that fits no other version of it', async () => {
    const overlay = tempPath('overlay');
    const source = `${url}/disk.img,overlay=${overlay}`;
    const device = await openSource(parseSource(source), { log, reconnectSeconds: 5 });
    await device.write(100, Buffer.from('mine'));
    await device.flush();
    await device.close();
    expect((await read(await open(source), 98, 8)).toString('latin1').slice(2, 6)).toBe('mine');
    await closing.shift()!();
    writeFileSync(join(folder, 'www/disk.img'), Buffer.from(content).reverse());
    const { code, stderr } = await farbus('info', source);
    expect(code).toBe(1);
    expect(stderr).toMatch(/another|other|not the/);
    writeFileSync(join(folder, 'www/disk.img'), content);
  });
});

describe('a web server that fails in passing', () => {
  const cases: Readonly<Record<string, (server: ObjectServer) => HttpFault>> = {
    'cuts each second answer': (server) => (request, response, count) => {
      const { start, end } = rangeOf(request);
      if (count % 2 === 0 || end - start < 100) return false;
      const bytes = server.content.subarray(start, start + 50);
      response.writeHead(206, {
        etag: server.tag,
        'content-range': `bytes ${start}-${end - 1}/${server.content.length}`,
        'content-length': end - start,
      });
      response.write(bytes, () => response.destroy());
      return true;
    },
    'sends less than it was asked for': (server) => (request, response) => {
      const { start, end } = rangeOf(request);
      server.send(response, { start, end: Math.min(end, start + 60_000) });
      return true;
    },
    'is busy each second time': () => (_request, response, count) => {
      if (count % 2 === 0) return false;
      response.writeHead(count % 4 === 1 ? 503 : 429, { 'retry-after': '0' }).end();
      return true;
    },
    'closes each third connection': () => (request, _response, count) => {
      if (count % 3 !== 0) return false;
      request.socket.destroy();
      return true;
    },
  };
  it.each(Object.keys(cases))('gives the right bytes: it %s', async (name) => {
    const server = await start();
    const device = await open(server.url);
    server.fault = cases[name]!(server);
    expect((await read(device, 1000, 700_000)).equals(content.subarray(1000, 701_000))).toBe(true);
  });

  it('is given up when the reconnect time is over', async () => {
    const server = await start();
    const device = await open(server.url, 1);
    server.fault = (request) => !request.socket.destroy().writable;
    await expect(read(device, 0, 512)).rejects.toMatchObject({ kind: 'unreachable' });
    server.fault = () => false;
    expect((await read(device, 0, 512)).equals(content.subarray(0, 512))).toBe(true);
  });

  it('gives a new address when the one that it redirected to has expired', async () => {
    const target = await start();
    let allowed = 3;
    target.fault = (_request, response) => {
      if (allowed-- > 0) return false;
      response.writeHead(403).end();
      return true;
    };
    const server = await start((_request, response) => {
      allowed = 3;
      response.writeHead(302, { location: target.url }).end();
      return true;
    });
    const device = await open(server.url);
    for (let at = 0; at < 8; at++) {
      const offset = 300_000 * at;
      expect((await read(device, offset, 512)).equals(content.subarray(offset, offset + 512))).toBe(true);
    }
  });
});

describe('a web server that lies', () => {
  const lies: Readonly<Record<string, readonly [RegExp, (server: ObjectServer) => HttpFault]>> = {
    'sends the whole object': [
      /does not serve ranges/,
      (server) => (_request, response) => void response.writeHead(200).end(server.content) === undefined,
    ],
    'sends another range': [
      /instead of the ones asked for/,
      (server) => (_request, response) => void server.send(response, { start: 5, end: 6 }) === undefined,
    ],
    'does not say which range it sends': [
      /does not say which bytes/,
      (server) => (_request, response) =>
        void server.send(response, { start: 0, end: 1 }, { 'content-range': 'bytes */*' }) === undefined,
    ],
    compresses: [
      /compresses/,
      (server) => (_request, response) =>
        void server.send(response, { start: 0, end: 1 }, { 'content-encoding': 'gzip' }) === undefined,
    ],
    'redirects in circles': [
      /redirects more than 10 times/,
      () => (_request, response) => void response.writeHead(302, { location: '/again' }).end() === undefined,
    ],
    'redirects to a file': [
      /not encrypted/,
      () => (_request, response) =>
        void response.writeHead(302, { location: 'file:///etc/passwd' }).end() === undefined,
    ],
    'answers with an unknown status': [
      /status 299/,
      () => (_request, response) => void response.writeHead(299).end() === undefined,
    ],
  };
  it.each(Object.entries(lies))('is refused: it %s', async (_name, [why, fault]) => {
    const server = await start();
    server.fault = fault(server);
    await expect(open(server.url)).rejects.toThrow(why);
  });

  it('never mixes two versions: the object changes while it is read', async () => {
    for (const keepsTag of [true, false]) {
      const server = await start();
      const device = await open(server.url);
      expect((await read(device, 0, 4096)).equals(content.subarray(0, 4096))).toBe(true);
      server.tag = '"2"';
      server.content = keepsTag ? content.subarray(0, 2_000_000) : Buffer.from(content).reverse();
      await expect(read(device, 1_000_000, 4096)).rejects.toThrow(/has changed since it was opened/);
      server.tag = '"1"';
      server.content = content;
      await expect(read(device, 1_500_000, 4096)).rejects.toThrow(/has changed since it was opened/);
    }
  });

  it('is noticed although it ignores conditions', async () => {
    const server = await start();
    const device = await open(server.url);
    server.fault = (request, response) => void server.send(response, rangeOf(request), { etag: '"9"' }) === undefined;
    await expect(read(device, 1_000_000, 4096)).rejects.toThrow(/has changed since it was opened/);
  });
});

describe('a login', () => {
  it('of ~/.netrc is sent to its host, follows no redirect to another, and is never shown', async () => {
    const other = await start();
    const server = await start((request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from('me:SECRET').toString('base64')}`) {
        response.writeHead(302, { location: other.url.replace('127.0.0.1', 'localhost') }).end();
      } else response.writeHead(401).end();
      return true;
    });
    const netrc = tempPath('netrc');
    writeFileSync(netrc, 'machine 127.0.0.1 login me password SECRET\n', { mode: 0o600 });
    process.env['NETRC'] = netrc;
    closing.push(async () => delete process.env['NETRC']);
    const found = await farbus('info', server.url);
    expect(found.stderr).toBe('');
    expect(found.code).toBe(0);
    expect(other.requests.length).toBeGreaterThan(0);
    expect(other.requests.some(({ headers }) => headers.authorization !== undefined)).toBe(false);
    server.fault = (_request, response) => void response.writeHead(401).end() === undefined;
    const refused = await farbus('info', server.url.replace('//', '//you:OTHERSECRET@'), '--json');
    expect(refused.code).toBe(1);
    expect(refused.stderr + refused.stdout).not.toMatch(/SECRET/);
    expect(refused.stderr).toMatch(/access denied/);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
