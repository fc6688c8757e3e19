/**
 * The web server of `farbus serve --web`: tokens, foreign pages, foreign clients by HTTP Upgrade,
 * and what hostile clients send.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { lend, type LendingSocket } from '../../src/web/lend/lend.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { statusOf, type ServeStatus } from '../../src/app/serve/control.js';
import { BlockError } from '../../src/block/errors.js';
import { Filter } from '../../src/block/filters/filter.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { until } from '../support/event-loop.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder, tempImage, tempPath } from '../support/temp.js';
import { webService, type WebService } from '../support/web-service.js';
import { execute, farbus, startFarbus } from './farbus.js';

const MiB = 1 << 20;

describe('farbus serve --web as a process', () => {
  test('prints the address of the page, whose token opens the interface', async () => {
    const content = randomBytes(4 * MiB);
    const image = tempImage(content);
    const server = startFarbus('serve', '--listen', 'nbd://127.0.0.1:0', '--web', '0', image);
    const [address] = await server.printed(/http:\S+/);
    const { host, hash, origin } = new URL(address);
    const authorization = `Bearer ${hash.slice('#token='.length)}`;
    const answer = await fetch(`${origin}/api/exports`, { headers: { authorization } });
    expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(await answer.json()).toMatchObject({
      rights: { control: true, lend: true },
      exports: [{ name: 'disk.img', size: 4 * MiB, mayWrite: true }],
    });
    expect((await fetch(`${origin}/api/exports`)).status).toBe(401);

    const made = await farbus('token', 'disk.img');
    const file = tempPath('disk.token');
    writeFileSync(file, made.stdout, { mode: 0o600 });
    const copy = tempPath('copy.img');
    const copied = await farbus('copy', `nbd+ws://${host}/disk.img?token-file=${file}`, copy);
    expect(copied).toMatchObject({ code: 0 });
    expect(readFileSync(copy).equals(content)).toBe(true);

    const id = /^[0-9a-f]{8}/.exec((await farbus('token', '--list')).stdout)![0];
    expect(await farbus('token', '--revoke', id)).toMatchObject({ code: 0 });
    const refused = await farbus('info', `nbd+ws://${host}/disk.img?token=${made.stdout.trim()}`);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('the token is missing, wrong or has expired');
    const shown = [(await farbus('ps', '--json')).stdout, server.stderr(), refused.stderr, copied.stderr].join('\n');
    expect(shown).not.toContain(made.stdout.trim());
    expect(shown).not.toContain(hash.slice('#token='.length));
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
  });

  test.each(['web', 'metrics'])('a port of --%s that is in use is told in one line', async (option) => {
    const taken = createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const args = ['serve', '--listen', 'nbd://127.0.0.1:0', `--${option}`, `127.0.0.1:${port}`, tempImage(MiB)];
    const { code, stderr } = await farbus(...args);
    const reason = 'it is in use: stop what listens there, or choose another place';
    const what = option === 'web' ? 'the web' : 'metrics';
    expect([code, stderr]).toEqual([1, `farbus: cannot serve ${what} at 127.0.0.1:${port}: ${reason}\n`]);
  });

  test('listen: [] serves the web and nothing else, and is refused without web', async () => {
    const config = tempPath('serve.json');
    const settings = { listen: [], exports: [{ name: 'disk', source: 'memory:1M' }] };
    writeFileSync(config, JSON.stringify({ ...settings, web: { listen: '127.0.0.1:0' } }));
    const server = startFarbus('serve', '--config', config, '--json');
    const [line] = await server.printed(/\{.*\}/);
    const { listening, web } = JSON.parse(line) as { listening: string[]; web: string };
    expect([listening, new URL(web).hostname]).toEqual([[], '127.0.0.1']);
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
    writeFileSync(config, JSON.stringify(settings));
    const refused = await farbus('serve', '--config', config);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('listen: [] without web');
  });

  test('sends the programs and styles of the page compressed', async () => {
    const server = startFarbus('serve', '--listen', 'nbd://127.0.0.1:0', '--web', '0', tempImage(MiB));
    const [address] = await server.printed(/http:\S+/);
    const page = await fetch(address);
    expect(page.headers.get('content-encoding')).toBeNull();
    const assets = [...(await page.text()).matchAll(/(?:src|href)="(\.\/assets\/[^"]+\.(?:js|css))"/g)];
    expect(assets.length).toBeGreaterThan(1);
    for (const [, name = ''] of assets) {
      const written = readFileSync(new URL(`../../dist/web/page/${name}`, import.meta.url), 'utf8');
      const lengths: number[] = [];
      // The second answer by gzip comes from memory; the build has made the one by Brotli.
      for (const accepted of ['gzip', 'gzip, br;q=0', 'gzip, br']) {
        const asset = await fetch(new URL(name, address), { headers: { 'accept-encoding': accepted } });
        expect(asset.headers.get('content-encoding')).toBe(accepted.endsWith('br') ? 'br' : 'gzip');
        expect(asset.headers.get('vary')).toContain('Accept-Encoding');
        expect(asset.headers.get('cache-control')).toContain('immutable');
        expect(await asset.text()).toBe(written);
        lengths.push(Number(asset.headers.get('content-length')));
      }
      expect(lengths[2]).toBeLessThan(lengths[0]!);
      // A file of a few hundred bytes has little to repeat.
      if (written.length > 4096) expect(lengths[0]).toBeLessThan(written.length / 2);
      expect((await fetch(new URL(`${name}.br`, address))).status).toBe(404);
    }
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
  });

  test('beyond loopback it uses TLS with a generated certificate, known by its fingerprint', async () => {
    const image = tempImage(MiB);
    const server = startFarbus('serve', '--listen', 'nbd://127.0.0.1:0', '--web', '0.0.0.0:0', '--json', image);
    const [line] = await server.printed(/.*\n/);
    const { web, webFingerprint } = JSON.parse(line) as { web: string; webFingerprint: string };
    expect(web).toMatch(/^https:/);
    const port = new URL(web).port;
    const token = (await farbus('token', 'disk.img')).stdout.trim();
    const source = `nbd+wss://127.0.0.1:${port}/disk.img?token=${token}`;
    expect(await farbus('info', `${source}&tls-fingerprint=${webFingerprint}`)).toMatchObject({ code: 0 });
    const other = await farbus('info', `${source}&tls-fingerprint=${'00:'.repeat(31)}00`);
    expect(other.stderr).toContain('the server has another certificate than the one with this fingerprint');
    const unknown = await farbus('info', source);
    expect(unknown.stderr).toContain(`cannot connect to nbd+wss://127.0.0.1:${port}/disk.img`);
    expect(unknown.stderr).toMatch(/: TLS failed: .*, or its fingerprint as tls-fingerprint=SHA256$/m);
    const plain = await farbus('info', `nbd+ws://127.0.0.1:${port}/disk.img?token=${token}`);
    expect(plain.code).toBe(1);
    expect(plain.stderr).toMatch(/it is no WebSocket server: .*: if the server has TLS, use nbd\+wss:\/\/$/m);
    const status = JSON.parse((await farbus('status', '--json')).stdout) as ServeStatus[];
    const own = status.find(({ pid }) => pid === server.child.pid);
    expect(own).toMatchObject({ web: web.split('#')[0], webFingerprint });
    const shown = (await farbus('status')).stdout;
    expect(shown).toContain(`\n  web          ${own!.web}\n  certificate  SHA-256 ${webFingerprint}\n`);
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
  });

  test('detached, it prints the fingerprint; and a server without TLS is told for nbd+wss', async () => {
    const args = ['--listen', 'nbd://127.0.0.1:0', '--web', '0.0.0.0:0', tempImage(MiB)];
    const { stdout } = await farbus('serve', '--detach', ...args);
    const [name, ...lines] = stdout.split('\n');
    onTestFinished(async () => void (await farbus('stop', name!)));
    expect(lines[2]).toMatch(/^SHA-256 of the web server's certificate: (?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/);
    const source = lines[0]!.replace('nbd:', 'nbd+wss:');
    const silent = await farbus('info', source);
    expect(silent.stderr).toContain(`cannot connect to ${source}: TLS failed: the bytes that arrived are not TLS`);
    expect(silent.stderr).toMatch(/: if the server has no TLS, use nbd\+ws:\/\/$/m);
  });

  test('a configuration file has an address and origins, and a reload reads the certificate again', async () => {
    const pki = [tempFolder(), tempFolder()].map((folder) => join(folder, 'pki'));
    for (const folder of pki) expect(await farbus('certificates', folder, '--quiet')).toMatchObject({ code: 0 });
    const file = tempPath('serve.yaml');
    const lines = [
      'listen: [nbd://127.0.0.1:0]',
      'tls: { certificates: ' + pki[0]! + ' }',
      "web: { listen: '127.0.0.1:0', origins: ['http://localhost:5173'] }",
      `exports: [{ source: ${tempImage(MiB)} }]`,
    ];
    writeFileSync(file, lines.join('\n'));
    const server = startFarbus('serve', '--config', file);
    const [address] = await server.printed(/https:\S+/);
    const { port, host, hash } = new URL(address);
    const shown = async (): Promise<string> => {
      const socket = connectTls({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.destroy();
      return fingerprint256;
    };
    const first = await shown();
    const page = { origin: 'http://localhost:5173', rejectUnauthorized: false };
    const protocols = ['nbd', `farbus.token.${hash.slice('#token='.length)}`];
    const embedded = new WebSocket(`wss://${host}/nbd/disk.img`, protocols, page);
    await once(embedded, 'open');
    embedded.terminate();
    for (const name of ['server-cert.pem', 'server-key.pem']) cpSync(join(pki[1]!, name), join(pki[0]!, name));
    server.child.kill('SIGHUP');
    while ((await shown()) === first) await new Promise((resolve) => setTimeout(resolve, 50));
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBe(0);
  });

  test.each([
    [['--web', 'x'], '--web x: expected HOST:PORT or PORT'],
    [['--web', '70000'], '--web 70000: expected HOST:PORT or PORT'],
    [['--web-origin', 'http://a'], '--web-origin is for --web'],
    [['--web', '0', '--web-origin', 'http://a/b'], 'expected an origin without a path'],
  ])('%j is refused', async (options, message) => {
    const { code, stderr } = await farbus('serve', ...options, tempImage(4096));
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});

describe('a web server', () => {
  let server: WebService;
  const sockets: WebSocket[] = [];
  beforeAll(async () => {
    server = await webService('disk=memory:8M', 'other=memory:1M');
  });
  afterAll(async () => {
    for (const socket of sockets) socket.terminate();
    await server.close();
  });

  const open = (path: string, protocols: string[] = [], headers = {}): WebSocket => {
    const socket = new WebSocket(`ws://${server.at}${path}`, protocols, { headers });
    sockets.push(socket);
    return socket;
  };
  const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

  test('tells browsers that each answer depends on the origin of the page that asks', async () => {
    // A browser keeps the engine. The one that the console page got has no headers for other pages.
    for (const path of ['/', '/engine/none.js', '/api/exports']) {
      const { headers } = await fetch(`http://${server.at}${path}`);
      expect(headers.get('vary')).toMatch(/^Origin(,|$)/);
    }
  });

  /** The status that refuses a WebSocket. */
  const refusal = (socket: WebSocket): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      socket.once('unexpected-response', (_request, response) => {
        resolve(response.statusCode);
        socket.terminate();
      });
      socket.once('open', () => reject(new Error('the socket was opened')));
      socket.on('error', () => undefined);
    });

  /** The status of a GET over a connection of its own. */
  const get = (headers: Record<string, string>, path = '/api/exports'): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const [host, port] = server.at.split(':');
      const sent = request({ host, port, path, headers, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject).end();
    });

  test('a flood of strangers from one address keeps no other address out', async () => {
    const [, port] = server.at.split(':');
    const flood = Array.from({ length: 40 }, () => {
      const socket = connect({ port: Number(port), host: '127.0.0.1', localAddress: '127.0.0.2' });
      return socket.on('error', () => undefined);
    });
    await Promise.all(flood.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
    expect(await get(bearer(server.token))).toBe(200);
    for (const socket of flood) socket.destroy();
  });

  test('checks host, origin, token and method of each request', async () => {
    const good = bearer(server.token);
    expect(await get(good)).toBe(200);
    expect(await get({ ...good, origin: `http://${server.at}` })).toBe(200);
    expect(await get({})).toBe(401);
    expect(await get(bearer(`${server.token}x`))).toBe(401);
    expect(await get({ ...good, host: 'rebound.example' })).toBe(421);
    expect(await get({ ...good, origin: 'http://evil.example' })).toBe(403);
    expect(await get({ ...good, origin: 'null' })).toBe(403);
    expect(await get(good, `/api/exports?token=${server.token}`)).toBe(400);
    expect(await get(good, '/nbd/%zz')).toBe(400);
    expect(await get(good, '/nbd/disk')).toBe(426);
    expect(await get(good, '/api/nothing')).toBe(404);
    expect(await get(good, '/../../etc/passwd')).toBe(404);
    expect(await get(good, '/..%2f..%2fpackage.json')).toBe(404);
    expect(await get(good, '/api/exports/disk/eject')).toBe(405);
  });

  test('takes JSON bodies only, of a limited size', async () => {
    const post = async (body: string, type = 'application/json'): Promise<number> => {
      const headers = { 'content-type': type };
      return (await server.get('/api/exports/disk/eject', { method: 'POST', body, headers })).status;
    };
    expect(await post('{}', 'text/plain')).toBe(415);
    expect(await post('[')).toBe(400);
    expect(await post('[]')).toBe(400);
    expect(await post(`{"a":"${'x'.repeat(70_000)}"}`)).toBe(413);
    expect(await post('{}')).toBe(409);
    const missingExport = server.get('/api/exports/none/lease', {
      method: 'POST',
      body: '{}',
      headers: { 'content-type': 'application/json' },
    });
    expect((await missingExport).status).toBe(404);
  });

  test('a WebSocket of a foreign page, without a token or with a wrong one is refused', async () => {
    expect(await refusal(open('/nbd/disk', ['nbd']))).toBe(401);
    expect(await refusal(open('/nbd/disk', ['nbd', 'farbus.token.wrong']))).toBe(401);
    const foreign = { origin: 'http://evil.example' };
    expect(await refusal(open('/nbd/disk', ['nbd', `farbus.token.${server.token}`], foreign))).toBe(403);
    expect(await refusal(open('/nbd/disk', ['other', `farbus.token.${server.token}`]))).toBe(400);
    expect(await refusal(open('/nbd/none', ['nbd', `farbus.token.${server.token}`]))).toBe(404);
  });

  test('a browser shows its token as a subprotocol, and gets the other one', async () => {
    const socket = open('/nbd/disk', ['nbd', `farbus.token.${server.token}`]);
    const [greeting] = (await once(socket, 'message')) as [Buffer];
    expect(greeting.subarray(0, 8).toString()).toBe('NBDMAGIC');
    expect(socket.protocol).toBe('nbd');
    socket.close();
  });

  test('shows what a client calls itself, on one line, and only to the owner', async () => {
    const labelOf = async (said: string): Promise<unknown> => {
      const socket = open(`/nbd/other?client=${said}`, ['nbd', `farbus.token.${server.token}`]);
      await once(socket, 'message');
      // NBD_OPT_EXPORT_NAME with an empty name enters the export.
      socket.send(Buffer.from('00000003' + Buffer.from('IHAVEOPT').toString('hex') + '0000000100000000', 'hex'));
      await once(socket, 'message');
      const { exports } = (await (await server.get('/api/exports')).json()) as { exports: { clients: object[] }[] };
      socket.terminate();
      const last: unknown = exports[1]!.clients.at(-1);
      return (last as { label?: string }).label;
    };
    expect(await labelOf('Computer%201')).toBe('Computer 1');
    expect(await labelOf('a%1b%5B2J%0Ab')).toBe('a [2J b');
    expect(await labelOf('x'.repeat(3000))).toBe(`${'x'.repeat(40)}...`);
    expect(await labelOf('%20')).toBeUndefined();
    expect(await labelOf('%zz')).toBe('%zz');
  });

  test('a token of one export reads that one, sees no other, and controls nothing', async () => {
    const { token } = await server.tokens.make(['disk'], false, 60);
    const disk = await openNbd(`nbd+ws://${server.at}/disk?token=${token}`);
    expect(disk.info.readOnly).toBe(true);
    await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'read-only' });
    await disk.close();
    const answer = await server.get('/api/exports', { headers: bearer(token) });
    const { exports, rights } = (await answer.json()) as { exports: { name: string }[]; rights: unknown };
    expect([exports.map(({ name }) => name), rights]).toEqual([['disk'], { control: false, lend: false }]);
    expect(await refusal(open('/nbd/other', ['nbd'], bearer(token)))).toBe(404);
    expect((await server.get('/api/computers', { headers: bearer(token) })).status).toBe(403);
    const eject = { method: 'POST', body: '{}', headers: { ...bearer(token), 'content-type': 'application/json' } };
    expect((await server.get('/api/exports/disk/eject', eject)).status).toBe(403);
  });

  test('a disk that is no file has no version, and a token sees the version of its own export only', async () => {
    const { token } = await server.tokens.make(['disk'], false, 60);
    const mine = await server.get('/version/disk', { headers: bearer(token) });
    expect([mine.status, await mine.json()]).toEqual([200, { version: null }]);
    expect((await server.get('/version/other', { headers: bearer(token) })).status).toBe(404);
    expect((await server.get('/version/none')).status).toBe(404);
    expect(await get({}, '/version/disk')).toBe(401);
    expect(await get({ ...bearer(token), origin: 'http://evil.example' }, '/version/disk')).toBe(403);
  });

  test('the path decides the export, whatever NBD asks for', async () => {
    const { token } = await server.tokens.make(['disk'], true, 60);
    const { connectNbd } = await import('../../src/protocol/nbd/initiator/initiator.js');
    const { socketDialer } = await import('../../src/network/websocket.node.js');
    const [host, port] = server.at.split(':') as [string, string];
    const dialer = socketDialer({ host, port: Number(port), path: '/nbd/disk', address: 'x', token });
    await expect(connectNbd(dialer, { exportName: 'other', reconnectSeconds: 0 })).rejects.toThrow('no export');
    const disk = await connectNbd(dialer, { exportName: '' });
    expect(disk.info.size).toBe(8 * MiB);
    await disk.close();
  });

  test('an expired and a revoked token end the open connections', async () => {
    const made = await server.tokens.make(['disk'], true, 60);
    const revoked = open('/nbd/disk', ['nbd'], bearer(made.token));
    await once(revoked, 'message');
    const brief = await server.tokens.make(['disk'], true, 2);
    const expiring = open('/api/events', ['farbus.events'], bearer(brief.token));
    await once(expiring, 'message');
    const bare = await upgraded(server.at, made.token);
    await server.tokens.revoke(made.entry.id);
    const [[code, reason]] = await Promise.all([
      once(revoked, 'close') as Promise<[number, Buffer]>,
      once(expiring, 'close'),
      // A reset, which is an error for this client.
      new Promise((resolve) => bare.on('error', () => undefined).once('close', resolve)),
    ]);
    expect([code, reason.toString()]).toEqual([1008, 'the token has expired or was revoked']);
    expect(await refusal(open('/api/events', ['farbus.events'], bearer(brief.token)))).toBe(401);
  });

  test('the end of its token ends a lent export, and the tab does not call again', async () => {
    const { token, entry } = await server.tokens.make(['lent.iso'], false, 60, true);
    // Its page shows these, and it gets no other fact about the server.
    expect(await (await server.get('/api/exports', { headers: bearer(token) })).json()).toEqual({
      name: 'test',
      listening: [expect.stringMatching(/^nbd:/)],
      exports: [],
      rights: { control: false, lend: true },
    });
    expect(await get(bearer(token), '/guest/system.json')).toBe(403);
    const states: string[] = [];
    let calls = 0;
    let tell = (): void => undefined;
    const lending = lend(new MemoryDevice(MiB), {
      server: `http://${server.at}`,
      name: 'lent.iso',
      token,
      open: (url, protocols) => {
        calls++;
        return new WebSocket(url, protocols) as unknown as LendingSocket;
      },
      onState: (state, detail) => {
        states.push(`${state}: ${detail}`);
        tell();
      },
    });
    const reached = async (wanted: string): Promise<void> => {
      while (!states.at(-1)?.startsWith(wanted)) await new Promise<void>((resolve) => (tell = resolve));
    };
    try {
      await reached('lent:');
      await server.tokens.revoke(entry.id);
      await reached('refused:');
      expect(lending.detail).toContain('the token has expired or was revoked');
      await until(() => server.service.server.exports.find('lent.iso') === undefined);
      expect(calls).toBe(1);
    } finally {
      await lending.stop();
    }
  });

  test('a tab whose token ends while it is away is told so when it calls again, and stops', async () => {
    const { token, entry } = await server.tokens.make(['away.iso'], false, 60, true);
    const states: string[] = [];
    let tell = (): void => undefined;
    let call: WebSocket | undefined;
    let isAway = false;
    const lending = lend(new MemoryDevice(MiB), {
      server: `http://${server.at}`,
      name: 'away.iso',
      token,
      open: (url, protocols) => {
        // Nothing listens on port 1: the network is away.
        call = new WebSocket(isAway ? 'ws://127.0.0.1:1' : url, protocols);
        call.on('error', () => undefined);
        return call as unknown as LendingSocket;
      },
      onState: (state, detail) => {
        states.push(`${state}: ${detail}`);
        tell();
      },
    });
    const reached = async (wanted: string): Promise<void> => {
      while (!states.at(-1)?.startsWith(wanted)) await new Promise<void>((resolve) => (tell = resolve));
    };
    try {
      await reached('lent:');
      isAway = true;
      call!.terminate();
      await reached('away:');
      await server.tokens.revoke(entry.id);
      isAway = false;
      await reached('refused:');
      expect(lending.detail).toBe('the token has expired or was revoked: lend the file again with a new token');
    } finally {
      await lending.stop();
    }
  });

  test('a token that never was is told on the address for lending, and a plain client gets 401', async () => {
    const wrong = open('/lend/x', ['nbd', 'farbus.token.wrong']);
    const [code] = (await once(wrong, 'close')) as [number];
    expect(code).toBe(1008);
    // A right of another kind, or for another name.
    const reading = (await server.tokens.make(['x'], false, 60)).token;
    const other = (await server.tokens.make(['y'], false, 60, true)).token;
    for (const token of [reading, other]) {
      const refused = open('/lend/x', ['nbd', `farbus.token.${token}`]);
      const [why, reason] = (await once(refused, 'close')) as [number, Buffer];
      expect([why, reason.toString()]).toEqual([
        4021,
        'the token may not lend under this name: take one of farbus token --lend',
      ]);
    }
    const bare = request({ host: '127.0.0.1', port: server.at.split(':')[1], path: '/lend/x' });
    bare.setHeader('connection', 'upgrade').setHeader('upgrade', 'nbd');
    const [answer] = (await once(bare.end(), 'response')) as [{ statusCode: number; resume(): void }];
    answer.resume();
    expect(answer.statusCode).toBe(401);
  });

  test('a holder of a token gets the kinds of errors of a device, and the log their texts', async () => {
    const secret = '/srv/secret.img at 10.9.8.7 cannot be read';
    class Broken extends Filter {
      protected override around<T>(): Promise<T> {
        return Promise.reject(new BlockError('no-space', secret));
      }
    }
    server.service.server.exports.add({ name: 'broken', device: new Broken(new MemoryDevice(MiB)) });
    const { token } = await server.tokens.make(['broken'], true, 60);
    const events = open('/api/events', ['farbus.events'], bearer(token));
    const heard: string[] = [];
    events.on('message', (data: Buffer) => heard.push(data.toString()));
    await once(events, 'message');
    const disk = await openNbd(`nbd+ws://${server.at}/broken?token=${token}`);
    const failed = await disk.write(0, new Uint8Array(512)).catch((error: unknown) => error as BlockError);
    expect(failed).toMatchObject({ kind: 'no-space' });
    expect(String(failed)).not.toContain('secret');
    await disk.close();
    server.service.server.exports.remove('broken');
    expect(heard.join('')).not.toContain('secret');
  });

  test('farbus status names the token of a client, and farbus token lists it with its time', async () => {
    const { token, entry } = await server.tokens.make(['disk'], true, 60);
    const disk = await openNbd(`nbd+ws://${server.at}/disk?token=${token}`);
    const { clients } = (await statusOf(server.service)).exports.find(({ name }) => name === 'disk')!;
    expect(clients.map((one) => one.token)).toContain(entry.id);
    await disk.close();
    const { stdout } = await farbus('token', '--list');
    expect(stdout).toContain(`${entry.id}  read and write  expires ${entry.expires!.slice(0, 16)}Z, made ${entry.made.slice(0, 16)}Z  disk\n`); // prettier-ignore
  });

  test('events have the state of the exports and the commands', async () => {
    const { token } = await server.tokens.make(['disk'], true, 60);
    const events = open('/api/events', ['farbus.events'], bearer(token));
    const seen: { type: string; exports?: { name: string; written: number }[]; commands?: object[] }[] = [];
    const withCommands = new Promise<void>((resolve) => {
      events.on('message', (data: Buffer) => {
        seen.push(JSON.parse(data.toString()) as (typeof seen)[number]);
        const counted = seen.some(({ exports = [] }) => exports.some(({ written }) => written > 0));
        if (counted && seen.some(({ type }) => type === 'commands')) resolve();
      });
    });
    await once(events, 'message');
    const [disk, other] = await Promise.all([
      openNbd(`nbd+ws://${server.at}/disk?token=${server.token}`),
      openNbd(`nbd+ws://${server.at}/other?token=${server.token}`),
    ]);
    await other.write(0, new Uint8Array(512));
    await disk.write(4096, new Uint8Array(512));
    await withCommands;
    expect(seen[0]).toMatchObject({ type: 'state', exports: [{ name: 'disk' }] });
    const all = seen.flatMap(({ commands = [] }) => commands);
    expect(all).toContainEqual(
      expect.objectContaining({ export: 'disk', client: '', operation: 'write', offset: 4096, length: 512, error: '' }),
    );
    expect(JSON.stringify(seen)).not.toContain('other');
    await Promise.all([disk.close(), other.close()]);
  });

  test('garbage, text, and messages that are too long end their own connection only', async () => {
    const disk = await openNbd(`nbd+ws://${server.at}/disk?token=${server.token}`);
    const ended = async (send: (socket: WebSocket) => void): Promise<number> => {
      const socket = open('/nbd/disk', ['nbd'], bearer(server.token));
      socket.on('error', () => undefined);
      await once(socket, 'message');
      send(socket);
      const [code] = (await once(socket, 'close')) as [number];
      return code;
    };
    expect(await ended((socket) => socket.send('text'))).toBe(4003);
    expect(await ended((socket) => socket.send(Buffer.alloc(33 * MiB + 1)))).toBe(1009);
    await ended((socket) => socket.send(randomBytes(4096)));
    await ended((socket) => rawSocket(socket).write(randomBytes(4096)));
    const data = randomBytes(512);
    await disk.write(0, data);
    const read = new Uint8Array(512);
    await disk.read(0, read);
    expect(data.equals(read)).toBe(true);
    await disk.close();
  });

  test('a client that never reads does not stop others', async () => {
    const lazy = open('/nbd/disk', ['nbd'], bearer(server.token));
    await once(lazy, 'message');
    // EXPORT_NAME, then reads of 1 MiB whose replies are never taken.
    const option = Buffer.concat([Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, 1, 0, 0, 0, 4]), Buffer.from('disk')]);
    lazy.send(Buffer.concat([Buffer.from([0, 0, 0, 3]), option]));
    await once(lazy, 'message');
    rawSocket(lazy).pause();
    const read = Buffer.alloc(28);
    read.writeUInt32BE(0x25609513, 0);
    read.writeUInt32BE(MiB, 24);
    for (let count = 0; count < 64; count++) lazy.send(read);
    const events = open('/api/events', ['farbus.events'], bearer(server.token));
    await once(events, 'open');
    rawSocket(events).pause();
    const disk = await openNbd(`nbd+ws://${server.at}/disk?token=${server.token}`);
    await disk.read(0, new Uint8Array(MiB));
    await disk.close();
    lazy.terminate();
  });

  test('connections that send no request do not keep clients out', async () => {
    const [host, port] = server.at.split(':') as [string, string];
    const idle: Socket[] = [];
    for (let count = 0; count < 40; count++) idle.push(connect(Number(port), host).on('error', () => undefined));
    await Promise.all(idle.slice(0, 32).map((socket) => once(socket, 'connect')));
    idle[0]!.write('GET / HTTP/1.1\r\nHost: ');
    // The oldest one gives way after some time.
    let refused = 0;
    while ((await get(bearer(server.token)).catch(() => undefined)) !== 200) {
      refused++;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(refused).toBeGreaterThan(0);
    for (const socket of idle) socket.destroy();
  });
});

/** The connection below a WebSocket. */
function rawSocket(socket: WebSocket): Socket {
  return (socket as unknown as { _socket: Socket })._socket;
}

/** A connection after `Upgrade: nbd`. */
async function upgraded(at: string, token: string): Promise<Socket> {
  const [host, port] = at.split(':') as [string, string];
  const headers = { connection: 'Upgrade', upgrade: 'nbd', authorization: `Bearer ${token}` };
  const sent = request({ host, port, path: '/nbd/disk', headers }).end();
  const [response, socket, head] = (await once(sent, 'upgrade')) as [{ statusCode: number }, Socket, Buffer];
  expect(response.statusCode).toBe(101);
  if (head.length > 0) socket.unshift(head);
  return socket;
}

/** Passes connections of a local port on to the server's `Upgrade: nbd`. */
async function bridge(at: string, token: string): Promise<{ port: number; server: Server }> {
  const server = createServer((client) => {
    client.on('error', () => undefined);
    void upgraded(at, token).then((far) => {
      far.on('error', () => client.destroy());
      far.on('close', () => client.destroy());
      client.on('close', () => far.destroy());
      client.pipe(far).pipe(client);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, server };
}

describe('HTTP Upgrade: nbd', () => {
  const tools = ['nbdcopy', 'nbdinfo', 'qemu-img'].filter((tool) => !missing(tool));
  test.skipIf(tools.length < 3)('nbdinfo, nbdcopy and qemu-img use an export through it', async () => {
    const content = randomBytes(8 * MiB);
    const server = await webService(`disk=${tempImage(content)}`);
    const { port, server: local } = await bridge(server.at, server.token);
    const uri = `nbd://127.0.0.1:${port}/`;
    const info = await execute('nbdinfo', ['--json', uri]);
    expect(JSON.parse(info.stdout)).toMatchObject({ exports: [{ 'export-size': 8 * MiB }] });
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [uri, copy])).toMatchObject({ code: 0 });
    expect(readFileSync(copy).equals(content)).toBe(true);
    const changed = tempImage(randomBytes(8 * MiB), 'changed.img');
    expect(await execute('nbdcopy', [changed, uri])).toMatchObject({ code: 0 });
    expect(await execute('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', changed, uri])).toMatchObject({ code: 0 });
    local.close();
    await server.close();
  });
});
