/**
 * `farbus serve` as a service: configuration file, access, limits, one writer, reload, status,
 * metrics.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { ask, entered, greeted, received, write } from '../support/nbd-client.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { authority, noOpenssl } from '../support/tls-certificates.js';
import { infoData, join as joined, metaData, optionBytes, requestBytes } from '../unit/nbd-target-peer.js';
import { u32 } from '../support/numbers.js';
import { execute, farbusFile, startFarbus, type Started } from './farbus.js';

const MiB = 1 << 20;
const sector = new Uint8Array(512).fill(0x77);

/** A server with a configuration file, in its own folder, which is also its runtime folder. */
class Service {
  readonly folder = tempFolder();
  readonly config = join(this.folder, 'serve.yaml');
  readonly socket = join(this.folder, 'nbd.sock');
  readonly where = { path: this.socket };
  process!: Started;

  configure(text: string): void {
    const listen = `listen: ['nbd+unix:///?socket=${this.socket}']\n`;
    writeFileSync(this.config, listen + text.replaceAll('FOLDER', this.folder));
  }

  image(name: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, new Uint8Array(MiB));
    return path;
  }

  /** Starts the server. Resolves when it has printed its first address. */
  async start(...options: string[]): Promise<this> {
    return this.startIn(this.folder, ...options);
  }

  /** Like {@link start}, with another runtime folder, which several servers can share. */
  async startIn(runtime: string, ...options: string[]): Promise<this> {
    process.env['XDG_RUNTIME_DIR'] = runtime;
    this.process = startFarbus('serve', '--config', this.config, ...options);
    delete process.env['XDG_RUNTIME_DIR'];
    await this.process.printed(/\n/);
    return this;
  }

  /** Runs `farbus` with this server's runtime folder. */
  farbus(...args: string[]): ReturnType<typeof execute> {
    return execute('env', [`XDG_RUNTIME_DIR=${this.folder}`, process.execPath, farbusFile, ...args]);
  }

  async status(): Promise<Record<string, never>[]> {
    return JSON.parse((await this.farbus('status', '--json')).stdout) as Record<string, never>[];
  }

  /** Waits until its messages match. */
  async said(pattern: RegExp): Promise<void> {
    for (let i = 0; !pattern.test(this.process.stderr()); i++) {
      if (i > 1000) throw new Error(`it did not say ${String(pattern)}: ${this.process.stderr()}`);
      await sleep(10);
    }
  }

  async reload(): Promise<void> {
    const before = this.process.stderr().length;
    this.process.child.kill('SIGHUP');
    for (let i = 0; !/reloaded/.test(this.process.stderr().slice(before)) && i < 1000; i++) await sleep(10);
  }

  async stop(): Promise<void> {
    this.process.child.kill('SIGTERM');
    expect(await this.process.ended).toEqual({ code: 0, signal: null });
  }
}

/** Retries until it succeeds: a server notices the end of a connection a moment later. */
async function eventually<T>(work: () => Promise<T>): Promise<T> {
  for (let i = 0; ; i++) {
    try {
      return await work();
    } catch (error) {
      if (i > 500) throw error;
      await sleep(10);
    }
  }
}

describe('a configuration file', () => {
  it.each([
    ['exports: []', /:2: exports: expected a list of at least one export/],
    ['exports:\n  - name: a\n', /:3: exports\[0\]: expected source: SOURCE/],
    [
      'exports:\n  - source: memory:1M\n    rate: fast\n',
      /:4: exports\[0\]\.rate: rate fast: expected a number of bytes/,
    ],
    [
      'exports:\n  - source: memory:1M\n    name: m\n    read-only: 3\n',
      /:5: exports\[0\]\.read-only: expected true or false, found 3/,
    ],
    [
      'exports:\n  - {source: "memory:1M", name: m, one-writer: maybe}\n',
      /:3: .*expected read-only or refuse, found "maybe"/,
    ],
    [
      'exports:\n  - {source: "memory:1M", name: m}\n  - {source: "memory:1M", name: m}\n',
      /:4: .*the name "m" is taken already/,
    ],
    [
      'exports:\n  - source: memory:1M\n    name: m\n    allow:\n      networks: [300.1.1.1]\n',
      /:6: exports\[0\]\.allow\.networks\[0\]: "300\.1\.1\.1" is no network/,
    ],
    [
      'exports:\n  - source: memory:1M\n    name: m\n    allow:\n      tokens: [short]\n',
      /:6: .*a token has 16 or more/,
    ],
    [
      'exports:\n  - {source: "memory:1M", name: m}\nmax-connections: 0\n',
      /:4: max-connections: expected a whole number from 1 to 1000000, or none, found 0/,
    ],
    ['exports:\n  - {source: "memory:1M", name: m}\nfoo: 0\n', /:4: foo: this key is not known here: expected listen/],
    [
      'exports: &a\n  - {source: "memory:1M", name: m}\nreconnect: *a\n',
      /:4: reconnect: expected a whole number from 0 to 86400, found a list/,
    ],
    ['exports: [\n', /:\d+: /],
    [
      'exports:\n  - {source: "disk.img", overlay: x, read-only: true}\n',
      /:3: exports\[0\]: read-only and overlay exclude each other/,
    ],
  ])('%j is reported with file, line and the expected value', async (text, message) => {
    const service = new Service();
    service.configure(text);
    const { code, stderr, stdout } = await service.farbus('serve', '--config', service.config);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^farbus: [^\n]*serve\.yaml:\d+: [^\n]+\n$/);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('may be JSON, and excludes sources on the command line', async () => {
    const service = new Service();
    writeFileSync(
      service.config,
      JSON.stringify({
        listen: [`nbd+unix:///?socket=${service.socket}`],
        exports: [{ source: 'memory:1M', name: 'm' }],
      }),
    );
    const both = await service.farbus('serve', '--config', service.config, 'disk.img');
    expect(both).toMatchObject({ code: 2, stdout: '' });
    await service.start();
    expect(service.process.stdout()).toBe(`nbd+unix:///m?socket=${service.socket}\n`);
    await service.stop();
  });
});

describe('access to an export', () => {
  it('is decided by network and token; other exports look absent', async () => {
    const service = new Service();
    service.configure(`exports:
  - {name: open, source: 'memory:1M'}
  - {name: net, source: 'memory:1M', allow: {networks: [10.0.0.0/8, 'fd00::/8']}}
  - {name: here, source: 'memory:1M', allow: {networks: [unix]}}
  - {name: secret, source: 'memory:1M', allow: {tokens: [correct-horse-battery]}}
  - {name: tls, source: 'memory:1M', allow: {tls-names: [alice]}}
`);
    await service.start();
    for (const name of ['', 'open', 'here', 'secret;token=correct-horse-battery']) {
      (await entered(service.where, name)).destroy();
    }
    for (const name of [
      'net',
      'secret',
      'secret;token=',
      'secret;token=correct-horse-batterz',
      'tls',
      'none',
      'open;x',
    ]) {
      await expect(entered(service.where, name), name).rejects.toThrow();
    }
    if (!missing('nbdinfo')) {
      const uri = `nbd+unix:///?socket=${service.socket}`;
      const { stdout } = await execute('nbdinfo', ['--list', '--json', uri]);
      const { exports } = JSON.parse(stdout) as { exports: { 'export-name': string }[] };
      expect(exports.map((one) => one['export-name'])).toEqual(['open', 'here']);
    }
    expect(service.process.stderr()).toMatch(/may not use the export "(net|secret|tls)"/);
    expect(service.process.stderr()).not.toContain('batter');
    await service.stop();
  });

  it.skipIf(noOpenssl())('is decided by the name that TLS has proved', async () => {
    const pki = authority();
    const service = new Service();
    service.configure(`tls: {certificates: ${pki.folder}, verify-peer: true}
exports:
  - {name: hers, source: 'memory:1M', allow: {tls-names: [alice, alice.example]}}
  - {name: his, source: 'memory:1M', allow: {tls-names: [bob]}}
`);
    await service.start();
    const open = async (name: string, folder: string): Promise<void> => {
      const uri = `nbds+unix:///${name}?socket=${service.socket}&tls-hostname=localhost&tls-certificates=${folder}`;
      await (await openNbd(uri, { reconnectSeconds: 0 })).close();
    };
    await open('hers', pki.folder);
    await open('his', pki.clientFolder('bob'));
    await expect(open('his', pki.folder)).rejects.toThrow(/no export|his/);
    await expect(open('hers', pki.clientFolder('bob'))).rejects.toThrow(/no export|hers/);
    await expect(open('hers', pki.clientFolder())).rejects.toThrow();
    await expect(entered(service.where, 'hers')).rejects.toThrow();
    await service.said(/\(alice[^)]*\): may not use the export "his"/);
    await service.stop();
  });

  it.skipIf(noOpenssl())('can be for TLS only, export by export', async () => {
    const pki = authority();
    const service = new Service();
    const exports = (tlsOnly: boolean): string => `tls: {certificates: ${pki.folder}, mode: on}
exports:
  - {name: open, source: 'memory:1M'}
  - {name: closed, source: 'memory:2M', tls-only: ${tlsOnly}, default: true}
`;
    service.configure(exports(true));
    await service.start();
    const plain = (name: string): string => `nbd+unix:///${name}?socket=${service.socket}`;
    const secure = (name: string): string =>
      `nbds+unix:///${name}?socket=${service.socket}&tls-certificates=${pki.folder}`;
    const libnbd = (name: string): string => secure(name).replace('?', '?tls-hostname=localhost&');
    await (await openNbd(plain('open'), { reconnectSeconds: 0 })).close();
    for (const name of ['closed', '']) {
      await expect(openNbd(plain(name), { reconnectSeconds: 0 }), name).rejects.toThrow(/TLS/);
      const device = await openNbd(libnbd(name), { reconnectSeconds: 0 });
      expect(device.info.size).toBe(2 * MiB);
      await device.close();
    }
    if (!missing('nbdinfo')) {
      const names = async (uri: string): Promise<string[]> => {
        const { stdout } = await execute('nbdinfo', ['--list', '--json', uri]);
        const { exports: list } = JSON.parse(stdout) as { exports: { 'export-name': string }[] };
        return list.map((one) => one['export-name']);
      };
      expect(await names(plain(''))).toEqual(['open']);
      expect(await names(secure(''))).toEqual(['open', 'closed']);
      const refused = await execute('nbdinfo', [plain('closed')]);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(/nbd_opt_go: server replied/);
      expect((await execute('nbdinfo', ['--size', secure('closed')])).stdout.trim()).toBe(String(2 * MiB));
    }
    if (!missing('qemu-img')) {
      const at = `driver=nbd,server.type=unix,server.path=${service.socket}`;
      const refused = await execute('qemu-img', ['info', '--image-opts', `${at},export=closed`]);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(/TLS/);
      const object = `tls-creds-x509,id=t,dir=${pki.folder},endpoint=client,verify-peer=no`;
      const told = await execute('qemu-img', ['info', '--object', object, '--image-opts', `${at},export=open`]);
      expect(told).toMatchObject({ code: 0 });
    }
    service.configure(exports(false));
    await service.reload();
    await (await openNbd(plain('closed'), { reconnectSeconds: 0 })).close();
    await service.stop();

    service.configure("exports: [{name: closed, source: 'memory:2M', tls-only: true}]\n");
    const without = await service.farbus('serve', '--config', service.config);
    expect(without).toMatchObject({ code: 2, stdout: '' });
    expect(without.stderr).toMatch(/^farbus: the export "closed" is tls-only, and there is no TLS: give [^\n]+\n$/);
  });

  it('is limited to a number of connections, in all and per export', async () => {
    const service = new Service();
    service.configure(`max-connections: 3
exports:
  - {name: two, source: 'memory:1M', max-connections: 2}
  - {name: any, source: 'memory:1M'}
`);
    await service.start();
    const first = await entered(service.where, 'two');
    const second = await entered(service.where, 'two');
    await expect(entered(service.where, 'two')).rejects.toThrow();
    const third = await eventually(() => entered(service.where, 'any'));
    await expect(greeted(service.where)).rejects.toThrow();
    await service.said(/refused: there are 3 connections already/);
    const gone = new Promise((resolve) => first.once('close', resolve));
    first.destroy();
    await gone;
    (await eventually(() => entered(service.where, 'two'))).destroy();
    for (const socket of [second, third]) expect(await ask(socket, 3)).toBe(0);
    await eventually(async () => expect((await service.status())[0]).toMatchObject({ connections: { open: 2 } }));
    await service.stop();
  });
});

describe('one writer', () => {
  it('at a time; another client can take the lease, and the first can no longer write', async () => {
    const service = new Service();
    service.image('disk.img');
    service.configure(`exports:
  - {name: disk, source: FOLDER/disk.img, one-writer: read-only}
  - {name: mine, source: 'memory:1M', one-writer: refuse}
`);
    await service.start();
    const first = await entered(service.where, 'disk');
    const second = await entered(service.where, 'disk');
    expect(await write(first, 0, sector)).toBe(0);
    expect(await write(second, 0, sector)).toBe(1);
    expect(await ask(second, 3)).toBe(0);
    const taken = await service.farbus('status', '--take', 'disk', '--json');
    expect(taken.code, taken.stderr).toBe(0);
    const third = await entered(service.where, 'disk');
    expect(await write(third, 512, sector)).toBe(0);
    expect(await write(first, 0, sector)).toBe(1);
    expect((await service.farbus('status')).stdout).toMatch(
      /client 3 a unix socket, \d+ s, may write:\n {6}0 B read, 512 B written, last write \d+ s ago\n/,
    );
    const holder = await entered(service.where, 'mine');
    await expect(entered(service.where, 'mine')).rejects.toThrow();
    await expect(openNbd(`nbd+unix:///mine?socket=${service.socket}`)).rejects.toThrow(
      'client 4 a unix socket writes this export: try again when it has gone',
    );
    // Readers never take the lease: they come in while it is held, and leave it to a writer.
    const reader = await openNbd(`nbd+unix:///mine?socket=${service.socket}`, { readOnly: true });
    expect(await write(holder, 0, sector)).toBe(0);
    const bytes = new Uint8Array(512);
    await reader.read(0, bytes);
    expect(bytes).toEqual(sector);
    const mine = `nbd+unix:///mine?socket=${service.socket}`;
    const seen = await service.farbus('info', mine, '--json');
    expect(seen, seen.stderr).toMatchObject({ code: 0 });
    const copied = await service.farbus('copy', mine, join(service.folder, 'copy.img'));
    expect(copied, copied.stderr).toMatchObject({ code: 0 });
    expect(readFileSync(join(service.folder, 'copy.img')).subarray(0, 512)).toEqual(Buffer.from(sector));
    // The lease ends with its connection.
    holder.destroy();
    const next = await eventually(() => entered(service.where, 'mine'));
    expect(await write(next, 0, sector)).toBe(0);
    await reader.close();
    expect(await service.farbus('status', '--take', 'none')).toMatchObject({ code: 1, stdout: '' });
    await service.stop();
  });
});

/** Enters transmission in a session of Farbus. Rejects if the server refuses. */
async function enteredInSession(where: Service['where'], name: string): Promise<Socket> {
  const socket = await greeted(where);
  const session = 'farbus:session/01234567-89ab-cdef-0123-456789abcdef';
  const [structured, choose, go] = [8, 10, 7];
  const options = [optionBytes(structured, new Uint8Array()), optionBytes(choose, metaData(name, [session]))];
  socket.write(joined([u32(3), ...options, optionBytes(go, infoData(name, []))]));
  let have = Buffer.alloc(0);
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    have = Buffer.concat([have, chunk as Buffer]);
    const last = have.lastIndexOf(Buffer.from('0003e889045565a9', 'hex'));
    if (last < 0 || have.length < last + 16) continue;
    if (have[last + 12]! >= 0x80) throw new Error(`option ${have.readUInt32BE(last + 8)} was refused`);
    if (have.readUInt32BE(last + 8) === go && have.readUInt32BE(last + 12) === 1) return socket;
  }
  throw new Error('the server closed the connection');
}

describe('one writer, the others refused', () => {
  it('has the lease back at once when it comes again in its session', async () => {
    const service = new Service();
    service.configure("exports:\n  - {name: mine, source: 'memory:1M', one-writer: refuse}\n");
    await service.start();
    const lost = await enteredInSession(service.where, 'mine');
    // The server has not noticed that the first connection is lost.
    const again = await enteredInSession(service.where, 'mine');
    lost.destroy();
    again.destroy();
    await service.stop();
  });
});

describe('status', () => {
  it('says what each client of an export has read and written, and when it wrote last', async () => {
    const service = new Service();
    service.configure("exports:\n  - {source: 'memory:1M', name: disk}\n");
    await service.start();
    const clients = [1, 2, 3].map(() => entered(service.where, 'disk'));
    const [writer, reader, eraser] = (await Promise.all(clients)) as [Socket, Socket, Socket];
    expect(await write(writer, 0, sector)).toBe(0);
    expect(await write(writer, MiB, sector)).not.toBe(0);
    reader.write(requestBytes({ command: 0, offset: 0, length: 4096 }));
    await received(reader, 16 + 4096);
    expect(await ask(eraser, 6, 0, 512)).toBe(0);
    const seconds = expect.any(Number) as number;
    const gone = await entered(service.where, 'disk');
    gone.destroy();
    type Counted = { exports: { clients: object[]; connections: number; connectionsTotal: number }[] };
    const exports = await eventually(async () => {
      const [status] = (await service.status()) as unknown as [Counted];
      expect(status.exports[0]).toMatchObject({ connections: 3, connectionsTotal: 4 });
      return status.exports;
    });
    const facts = { peer: 'a unix socket', connected: seconds, rates: expect.any(Object) as object };
    const counts = { requests: 1, bytesRead: 0, bytesWritten: 0 };
    expect(exports[0]!.clients).toHaveLength(3);
    for (const client of [
      { ...facts, ...counts, requests: 2, bytesWritten: 512, lastWrite: seconds },
      { ...facts, ...counts, bytesRead: 4096 },
      { ...facts, ...counts, lastWrite: seconds },
    ]) {
      expect(exports[0]!.clients).toContainEqual({ ...client, id: expect.any(String) as string });
    }
    const { stdout } = await service.farbus('status');
    expect(stdout).toContain('\n    3 connections, 4 since the start\n');
    expect(stdout).toMatch(/client \d a unix socket, \d+ s: 0 B read, 512 B written, last write \d+ s ago\n/);
    expect(stdout).toMatch(/client \d a unix socket, \d+ s: 4.0 KiB read, 0 B written\n/);
    expect(stdout).toMatch(/client \d a unix socket, \d+ s: 0 B read, 0 B written, last write \d+ s ago\n/);
    await service.stop();
  });
});

describe('present rates', () => {
  it('are in the status of exports and of clients, and in the metrics; with latencies where they are measured', async () => {
    const service = new Service();
    service.configure("exports:\n  - {source: 'memory:1M', name: busy}\n  - {source: 'memory:1M', name: idle}\n");
    await service.start('--metrics', '0');
    const client = await entered(service.where, 'busy');
    let ends = false;
    const load = (async () => {
      while (!ends) {
        await write(client, 0, sector);
        await sleep(5);
      }
    })();
    const known = { requests: expect.any(Number) as number, bytesWritten: expect.any(Number) as number, bytesRead: 0 };
    const rates = await eventually(async () => {
      const [{ exports }] = (await service.status()) as unknown as [
        { exports: [{ rates: { requests: number; bytesWritten: number }; clients: [{ rates: object }] }, object] },
      ];
      expect(exports[0].rates.requests).toBeGreaterThan(0);
      expect(exports[0].clients[0].rates).toMatchObject(known);
      expect(exports[1]).toMatchObject({ rates: { requests: 0, bytesRead: 0, bytesWritten: 0 } });
      return exports[0].rates;
    });
    expect(rates).toMatchObject({ ...known, latency: { p50: expect.any(Number), p99: expect.any(Number) } });
    expect(rates.bytesWritten / rates.requests).toBeCloseTo(512, -2);
    await eventually(async () => {
      const { stdout } = await service.farbus('status');
      const now = String.raw`now \d+ requests/s, 0 B/s read, [\d.]+ (B|KiB|MiB)/s written`;
      expect(stdout).toMatch(new RegExp(`^ {4}${now}; p50 <= [\\d.]+ ms, p99 <= [\\d.]+ ms\n[^]*^ {6}${now}\n`, 'm'));
      expect(stdout).toMatch(/idle: [^\n]+\n {4}0 requests, [^\n]+\n {4}0 connections, [^\n]+\n$/);
    });
    const [{ metrics }] = (await service.status()) as unknown as [{ metrics: string }];
    await eventually(async () => {
      const text = await (await fetch(metrics)).text();
      expect(text).toMatch(/^farbus_written_bytes_per_second\{export="busy"\} [1-9]/m);
      expect(text).toMatch(/^farbus_requests_per_second\{export="idle"\} 0$/m);
    });
    ends = true;
    await load;
    client.destroy();
    await service.stop();
  });
});

describe('a reload', () => {
  it('adds, changes and removes exports while connections continue', async () => {
    const service = new Service();
    for (const name of ['a.img', 'b.img', 'c.img']) service.image(name);
    service.configure(
      'exports:\n  - {name: a, source: FOLDER/a.img}\n  - {name: b, source: FOLDER/b.img, description: old}\n',
    );
    await service.start();
    const [a, b] = [await entered(service.where, 'a'), await entered(service.where, 'b')];
    service.configure(
      'exports:\n  - {name: b, source: FOLDER/b.img, description: new}\n  - {name: c, source: FOLDER/c.img, rate: 1M}\n',
    );
    await service.reload();
    for (const socket of [a, b]) expect(await write(socket, 0, sector)).toBe(0);
    await expect(entered(service.where, 'a')).rejects.toThrow();
    const c = await entered(service.where, 'c');
    expect(await write(c, 0, sector)).toBe(0);
    const [status] = await service.status();
    expect(status!['exports']).toMatchObject([{ name: 'b', description: 'new' }, { name: 'c' }]);
    expect(readFileSync(join(service.folder, 'a.img')).subarray(0, 512)).toEqual(Buffer.from(sector));

    // A configuration that cannot be applied changes nothing.
    service.configure('exports:\n  - {name: b, source: FOLDER/none.img}\n');
    await service.reload();
    expect(service.process.stderr()).toMatch(/not reloaded, the settings stay as they were: [^\n]*none\.img/);
    service.configure('exports: 7\n');
    const reload = await service.farbus('status', '--reload');
    expect(reload.code).toBe(1);
    expect(reload.stderr).toMatch(/serve\.yaml:2: exports: expected a list of exports, found 7/);
    for (const socket of [a, b, c]) expect(await write(socket, 512, sector)).toBe(0);
    await service.stop();
  });
});

describe('what a server reports', () => {
  it('status, metrics, JSON logs', async () => {
    const service = new Service();
    service.configure(`metrics: '127.0.0.1:0'
exports:
  - {name: 'say "hi"', source: 'memory:1M', description: some memory}
`);
    await service.start('--log-format', 'json', '--json');
    const { metrics } = JSON.parse(service.process.stdout()) as { metrics: string };
    const socket = await entered(service.where, '');
    expect(await write(socket, 0, sector)).toBe(0);
    expect(await ask(socket, 3)).toBe(0);
    expect(await ask(socket, 0, MiB, 512)).toBe(22);
    const text = await (await fetch(metrics)).text();
    const value = (name: string): number => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
    const of = String.raw`\{export="say \\"hi\\""`;
    expect(value('farbus_connections')).toBe(1);
    expect(value(`farbus_export_connections${of}\\}`)).toBe(1);
    expect(value(`farbus_requests_total${of}\\}`)).toBe(3);
    expect(value(`farbus_errors_total${of}\\}`)).toBe(1);
    expect(value(`farbus_written_bytes_total${of}\\}`)).toBe(512);
    expect(value(`farbus_device_request_seconds_count${of},op="write"\\}`)).toBe(1);
    expect(value(`farbus_device_request_seconds_bucket${of},op="flush",le="\\+Inf"\\}`)).toBe(1);
    for (const line of text.split('\n')) {
      expect(line).toMatch(/^(#.*|[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)+\})? [0-9.e+-]+|)$/);
    }
    const [status] = await service.status();
    expect(status).toMatchObject({
      exports: [{ clients: [{ id: '1', peer: 'a unix socket' }], requests: 3, errors: 1 }],
    });
    expect((await service.farbus('status')).stdout).toContain('1.0 MiB, writable, some memory');
    expect((await fetch(metrics.replace('/metrics', '/'))).status).toBe(404);
    // A page whose name leads here (DNS rebinding) reads nothing.
    for (const [host, status] of [
      ['rebound.example', 421],
      ['localhost:1', 200],
      [hostname(), 200],
    ] as const) {
      const [answer] = (await once(request(metrics, { headers: { host } }).end(), 'response')) as [IncomingMessage];
      answer.resume();
      expect([host, answer.statusCode]).toEqual([host, status]);
    }
    await expect(entered(service.where, 'none')).rejects.toThrow();
    service.process.child.kill('SIGHUP');
    await service.said(/reloaded/);
    for (const line of service.process.stderr().trim().split('\n')) {
      expect(JSON.parse(line)).toMatchObject({
        time: expect.any(String),
        level: expect.any(String),
        message: expect.any(String),
      });
    }
    const control = (status as unknown as { socket: string }).socket;
    expect(existsSync(control)).toBe(true);
    await service.stop();
    expect(existsSync(control)).toBe(false);
    expect((await service.farbus('status')).stdout).toBe('no farbus serve runs here\n');
  });

  it('farbus ps shows the medium that is in a drive now', async () => {
    const service = new Service();
    service.configure("exports:\n  - {name: cd, source: 'memory:1M,removable'}\n");
    await service.start();
    const uses = async (): Promise<string[]> => JSON.parse((await service.farbus('ps', '--json')).stdout)[0].uses;
    expect(await uses()).toEqual(['cd=memory:1M,removable']);
    for (const [act, found] of [
      [['eject'], 'cd (no medium)'],
      [['insert', 'memory:2M'], 'cd=memory:2M'],
    ] as const) {
      expect((await service.farbus('media', '--server', 'cd', ...act)).code).toBe(0);
      expect(await uses()).toEqual([found]);
    }
    await service.stop();
  });

  it('a server that does not answer is reported in a line, in time', async () => {
    const service = new Service();
    service.configure("exports:\n  - {name: here, source: 'memory:1M'}\n");
    await service.start();
    const other = new Service();
    other.configure("exports:\n  - {name: there, source: 'memory:1M'}\n");
    await other.startIn(service.folder);
    expect(await service.status()).toHaveLength(2);
    const { child } = other.process;
    child.kill('SIGSTOP');
    const told = String.raw`no answer within 2 s from \S*/serve-server-2\.${child.pid!}\.sock: was it stopped\?\n$`;
    const { code, stdout, stderr } = await service.farbus('status');
    expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining('here') });
    expect(stderr).toMatch(new RegExp(`^farbus: ${told}`));
    // A command for a server that does not exist says why it fails.
    expect(await service.farbus('media', '--server', 'there', 'eject')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`^farbus: no server here has an export "there"; ${told}`)),
    });
    // A control socket that a killed server has left is not a server.
    child.kill('SIGKILL');
    await other.process.ended;
    expect(await service.farbus('status')).toMatchObject({ code: 0, stderr: '' });
    await service.stop();
  });
});
