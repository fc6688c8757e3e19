/** Objects on web servers (src/storage/http): redirects, queues and secrets, under faults. */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { describe as describeProcess } from '../../src/app/control/description.js';
import { register, running } from '../../src/app/control/registry.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import type { BlockDevice } from '../../src/block/device.js';
import { ObjectServer, rangeOf } from '../support/http-server.js';
import { tempFolder } from '../support/temp.js';
import { farbus } from './farbus.js';

const content = randomBytes(3_000_001);
const lines: string[] = [];
const log = { log: (_level: string, line: string) => void lines.push(line) };
const closing: (() => unknown)[] = [];

async function start(): Promise<ObjectServer> {
  const server = await ObjectServer.start(content);
  closing.push(() => server.stop());
  return server;
}

async function open(text: string, reconnectSeconds: number): Promise<BlockDevice> {
  const device = await openSource(parseSource(text), { log, reconnectSeconds });
  closing.unshift(() => device.close());
  return device;
}

function within(name: string, value: string): void {
  const before = process.env[name];
  process.env[name] = value;
  closing.push(() => {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  });
}

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  lines.length = 0;
});

describe('a web server', () => {
  it('that wants a longer pause than the reconnect time is asked once more at its end', async () => {
    const server = await start();
    const device = await open(server.url, 1);
    const before = server.requests.length;
    server.fault = (_request, response, count) => {
      if (count > before + 1) return false;
      response.writeHead(503, { 'retry-after': '3600' }).end();
      return true;
    };
    const bytes = Buffer.alloc(512);
    await device.read(1_000_000, bytes);
    expect(bytes.equals(content.subarray(1_000_000, 1_000_512))).toBe(true);
  });

  it('whose redirect expires while an older answer is under way gives the new address', async () => {
    const target = await start();
    const server = await start();
    let number = 0;
    server.fault = (_request, response) => {
      response.writeHead(302, { location: `${target.url}?number=${++number}` }).end();
      return true;
    };
    const device = await open(server.url, 10);
    const expired = `/disk.img?number=${number}`;
    let held: ServerResponse | undefined;
    target.fault = (request, response) => {
      if (request.url !== expired) return false;
      const range = rangeOf(request);
      if (held === undefined) held = response;
      else if (response !== held) {
        response.writeHead(403).end();
        setTimeout(() => target.send(held!, { start: 0, end: 512 }), 30);
      }
      return range.end > 0;
    };
    const [first, second] = [Buffer.alloc(512), Buffer.alloc(512)];
    const early = device.read(0, first);
    while (held === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    await Promise.all([early, device.read(2_000_000, second)]);
    expect(second.equals(content.subarray(2_000_000, 2_000_512))).toBe(true);
  });
});

describe('a secret', () => {
  it('of S3 is sent to no server that a redirect names', async () => {
    const other = await start();
    const server = await start();
    server.fault = (_request, response) => {
      response.writeHead(307, { location: other.url }).end();
      return true;
    };
    within('AWS_ENDPOINT_URL', new URL(server.url).origin);
    within('AWS_ACCESS_KEY_ID', 'KEY');
    within('AWS_SECRET_ACCESS_KEY', 'SECRET');
    within('AWS_SESSION_TOKEN', 'TOKEN');
    const device = await open('s3://bucket/disk.img', 5);
    await device.read(1_000_000, Buffer.alloc(512));
    expect(server.requests[0]!.headers['x-amz-security-token']).toBe('TOKEN');
    const sent = other.requests.flatMap(({ headers }) => [headers.authorization, headers['x-amz-security-token']]);
    expect(sent.filter((one) => one !== undefined)).toEqual([]);
    expect(sent.length).toBeGreaterThan(2);
  });

  it.each([
    ['HTTP://me:SECRET@127.0.0.1:1/a?k=SECRET', /no such kind of source/],
    ['https://me:pa/SECRET@host/a', /is not a URL/],
    ['http://me%zz:SECRET@127.0.0.1:1/a', /%25/],
    ['http://me:SECRET@127.0.0.1:1/a?k=SECRET,bus=none', /bus= is/],
  ])('of a text that is refused is not shown: %s', async (text, why) => {
    const { code, stderr } = await farbus('info', text);
    expect([code, /SECRET/.test(stderr)]).toEqual([2, false]);
    expect(stderr).toMatch(why);
  });

  it('of a proxy that is none is not shown, and the variables to check are named', async () => {
    within('http_proxy', 'ftp://me:SECRET@proxy');
    const { code, stderr } = await farbus('info', 'http://127.0.0.1:1/a');
    expect([code, /SECRET/.test(stderr)]).toEqual([1, false]);
    expect(stderr).toMatch(/^farbus: the proxy of the environment .*: check http_proxy/);
  });

  it('is in no output for programs, and not in what farbus ps asks for', async () => {
    const server = await start();
    const { code, stdout } = await farbus('info', `${server.url}?k=SECRET`.replace('//', '//me:SECRET@'), '--json');
    expect([code, /SECRET/.test(stdout)]).toEqual([0, false]);
    const env = { ...process.env, XDG_RUNTIME_DIR: tempFolder() };
    const uses = ['disk=http://me:SECRET@host/a?k=SECRET'];
    const computers = [{ name: 'one', state: 'running', uses, reach: [] }];
    const end = (): void => undefined;
    const early = { state: 'starting', uses, reach: [], computers };
    const own = await register({ kind: 'serve', name: 'secretive', usual: 'server', env, end }, early);
    const [found] = await running(env);
    expect(JSON.stringify(await describeProcess(found!))).not.toMatch(/SECRET/);
    await own.close();
  });
});
