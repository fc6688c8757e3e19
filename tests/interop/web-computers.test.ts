/** Computers on the web server: console, screen, keys and media, by their control sockets. */
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { consoleStream } from '../../src/app/control/console.js';
import { register, type Registration } from '../../src/app/control/registry.js';
import type { ControlRequest } from '../../src/app/control/server.js';
import { ConsoleFeed } from '../../src/base/console-feed.js';
import { FarbusError } from '../../src/base/errors.js';
import { silent } from '../../src/base/log.js';
import { startWeb } from '../../src/app/web/serve.js';
import { Tokens } from '../../src/web/server/tokens.node.js';
import { webService, type WebService } from '../support/web-service.js';

const feed = new ConsoleFeed();
const typed: string[] = [];
const requests: ControlRequest[] = [];
const ended: string[] = [];
let server: WebService;
const registered: Registration[] = [];

beforeAll(async () => {
  server = await webService('disk=memory:1M');
  const common = { env: process.env, usual: '' };
  const facts = { state: 'running', uses: ['nbd+ws://h/d?token=SECRET'], reach: ['farbus console desk'] };
  const computer = await register({ ...common, kind: 'computer', name: 'desk', end: () => ended.push('desk') }, facts);
  computer.serve(
    async (request) => {
      requests.push(request);
      if (request.command === 'abilities') return ['screen', 'keys', 'media'];
      if (request.command === 'drives') return [{ drive: 0, kind: 'cdrom', can: 'insert' }];
      if (request.command === 'console')
        return consoleStream(feed, (bytes) => typed.push(Buffer.from(bytes).toString()));
      if (request.command === 'screenshot') return { png: Buffer.from('PNG').toString('base64'), text: ['login:'] };
      if (request.command === 'insert') throw new FarbusError('there is a medium in the drive: eject it first');
      return {};
    },
    () => facts,
  );
  const parts = [
    { name: 'client', state: 'running', uses: [], reach: [] },
    { name: 'gone', state: 'crashed', detail: 'its process ended by itself: SIGKILL', uses: [], reach: [] },
  ];
  const site = await register(
    { ...common, kind: 'site', name: 'lab', end: () => undefined },
    { ...facts, computers: parts },
  );
  site.serve(
    async (request) => {
      requests.push(request);
      if ((request['request'] as ControlRequest | undefined)?.command === 'abilities') return ['pause'];
      if (request.command !== 'console') return {};
      return consoleStream(feed, (bytes) => typed.push(Buffer.from(bytes).toString()));
    },
    () => ({ ...facts, computers: parts }),
  );
  registered.push(computer, site);
});
afterAll(async () => {
  for (const one of registered) await one.close();
  await server.close();
});

const post = (path: string, body: object): Promise<Response> =>
  server.get(path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });

test('those of farbus run and of sites are listed, with what they can, and without secrets', async () => {
  expect(await (await server.get('/api/computers')).json()).toMatchObject([
    {
      name: 'desk',
      state: 'running',
      uses: ['nbd+ws://h/d?token=...'],
      drives: [{ drive: 0, kind: 'cdrom', can: 'insert' }],
      can: ['console', 'screen', 'keys', 'media', 'stop'],
    },
    { name: 'lab/client', site: 'lab', drives: [], can: ['console', 'pause', 'stop', 'reset'] },
    {
      name: 'lab/gone',
      site: 'lab',
      state: 'crashed',
      detail: 'its process ended by itself: SIGKILL',
      drives: [],
      can: ['start'],
    },
  ]);
});

test.each(['desk', 'lab%2Fclient'])('the console of %s carries bytes both ways', async (name) => {
  const protocols = ['farbus.console', `farbus.token.${server.token}`];
  const socket = new WebSocket(`ws://${server.at}/api/computers/${name}/console`, protocols);
  await once(socket, 'open');
  const output = once(socket, 'message') as Promise<[Buffer, boolean]>;
  feed.add(new TextEncoder().encode(`hello from ${name}`));
  const [bytes, isBinary] = await output;
  expect([bytes.toString(), isBinary]).toEqual([expect.stringContaining(`hello from ${name}`), true]);
  typed.length = 0;
  socket.send(Buffer.from('ls\r'));
  while (typed.join('') !== 'ls\r') await new Promise((resolve) => setTimeout(resolve, 5));
  const closed = once(socket, 'close') as Promise<[number]>;
  socket.send('text');
  expect((await closed)[0]).toBe(4003);
});

test('screen, keys and media are those of its control socket', async () => {
  const screen = await server.get('/api/computers/desk/screen');
  expect([screen.headers.get('content-type'), await screen.text()]).toEqual(['image/png', 'PNG']);
  expect(await (await server.get('/api/computers/desk/text')).json()).toEqual({ text: ['login:'] });
  expect((await post('/api/computers/desk/keys', { text: 'root<enter>' })).status).toBe(200);
  expect(requests.at(-1)).toMatchObject({ command: 'type', text: 'root<enter>' });
  expect((await post('/api/computers/desk/keys', { text: 'x'.repeat(5000) })).status).toBe(400);
  expect((await post('/api/computers/desk/mouse', { x: 3, y: -4, buttons: 2, path: '/etc' })).status).toBe(200);
  expect(requests.at(-1)).toEqual({ command: 'mouse', x: 3, y: -4, wheel: 0, buttons: 2, progress: true });
  const inserted = await post('/api/computers/desk/insert', { drive: 0, export: 'disk' });
  expect([inserted.status, await inserted.json()]).toEqual([
    409,
    { error: 'there is a medium in the drive: eject it first' },
  ]);
  const [at] = server.service.listening;
  expect(requests.at(-1)).toMatchObject({ command: 'insert', drive: 0, source: server.service.uri(at!, 'disk') });
});

test('no request names a file of the server', async () => {
  const count = requests.length;
  expect((await post('/api/computers/desk/insert', { drive: 0, export: '/etc/passwd' })).status).toBe(404);
  expect((await post('/api/computers/desk/insert', { drive: 0, source: '/etc/passwd' })).status).toBe(404);
  expect((await post('/api/computers/desk/eject', { drive: '0' })).status).toBe(400);
  expect(requests).toHaveLength(count);
});

test.each(['pause', 'resume', 'snapshot', 'detach'])('%s goes to the computer, and to one of a site', async (act) => {
  expect((await post(`/api/computers/desk/${act}`, { path: '/etc/passwd' })).status).toBe(200);
  const asked = requests.at(-1)!;
  expect(asked).toMatchObject({ command: act });
  expect(JSON.stringify(asked)).not.toContain('passwd');
  expect((await post(`/api/computers/lab%2Fclient/${act}`, {})).status).toBe(200);
  expect(requests.at(-1)).toMatchObject({ command: 'computer', computer: 'client', request: { command: act } });
});

test('start and reset start a computer of a site; one of farbus run refuses them', async () => {
  const commands = { start: 'start-computer', reset: 'restart-computer' };
  for (const [act, command] of Object.entries(commands)) {
    expect((await post(`/api/computers/lab%2Fclient/${act}`, {})).status).toBe(200);
    expect(requests.at(-1)).toMatchObject({ command, computer: 'client' });
    expect((await post(`/api/computers/desk/${act}`, {})).status).toBe(409);
  }
});

test('a token of exports sees no computer and changes none', async () => {
  const { token } = await server.tokens.make(['disk'], true, 3600);
  const count = requests.length;
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  expect((await server.get('/api/computers', { headers })).status).toBe(403);
  for (const act of ['pause', 'resume', 'reset', 'start', 'snapshot', 'attach', 'detach', 'insert', 'eject', 'stop']) {
    const answer = await server.get(`/api/computers/desk/${act}`, { method: 'POST', body: '{}', headers });
    expect([act, answer.status]).toEqual([act, 403]);
  }
  expect(requests).toHaveLength(count);
});

test('a computer that does not exist is 404', async () => {
  expect((await server.get('/api/computers/none/screen')).status).toBe(404);
  expect((await server.get('/api/computers/lab/screen')).status).toBe(404);
  expect((await post('/api/computers/none/mouse', { x: 1, y: 1, buttons: 0 })).status).toBe(404);
});

test('stop ends it in good order', async () => {
  expect((await post('/api/computers/desk/stop', {})).status).toBe(200);
  while (ended.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect((await post('/api/computers/lab%2Fclient/stop', {})).status).toBe(200);
  expect(requests.at(-1)).toMatchObject({ command: 'stop-computer', computer: 'client' });
});

test('a site, which has no exports, answers what the page asks first', async () => {
  const tls = { 'tls-verify-peer': false };
  const web = await startWeb({ at: '127.0.0.1:0', origins: [], tls, name: 'lab', env: process.env, log: silent });
  try {
    const { consoleToken } = await Tokens.open(process.env);
    const headers = { authorization: `Bearer ${consoleToken}` };
    const answer = await fetch(`${web.plainAddress}api/exports`, { headers });
    expect([answer.status, await answer.json()]).toEqual([
      200,
      expect.objectContaining({ name: 'lab', exports: [], listening: [], rights: { control: true, lend: false } }),
    ]);
    expect((await fetch(`${web.plainAddress}api/exports`)).status).toBe(401);
  } finally {
    web.close();
  }
});
