/**
 * Sockets that are no disks, as a subject of fuzzing: the control socket of a server, that of a
 * site, and the metrics. Whatever comes, each answers or closes, and the next client with a good
 * request is answered.
 */
import { connect, type Socket } from 'node:net';
import { controlHandler } from '../../../src/app/serve/control.js';
import { askControl } from '../../../src/app/control/client.js';
import { serveControl, type ControlSocket } from '../../../src/app/control/server.js';
import { siteHandler } from '../../../src/app/site/control.js';
import type { Supervisor } from '../../../src/site/supervisor.js';
import { tempFolder } from '../../support/temp.js';
import { join, text } from '../harness/bytes.js';
import { Composed } from '../harness/compositions.js';
import type { Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import type { Random } from '../../../src/conformance/random.js';

/**
 * How long a client waits for what may come, in ms; and for an answer that must come: only a hang
 * reaches that.
 */
const quietMs = 5;
const patienceMs = 30_000;

const lines = [
  '{"command":"status"}', '{"command":"lease","export":"disk","to":"1"}', '{"command":"eject","export":"disk","force":true}',
  '{"command":"insert","export":"disk","source":"memory:4096"}', '{"command":"reload"}', '{"command":"x"}', '{"command":"down"}',
  '{"command":"console","computer":"a"}', '{"command":"lease","device":"d","to":"x"}', 'null', '[]', '1', '"', '{', '}',
  '{"command":{"toString":1}}', '{"command":"__proto__"}', '{"command":"status","__proto__":{"x":1}}', '[[[[[[[[[[[[',
  'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n', 'GET / HTTP/1.0\r\n\r\n', 'POST /metrics HTTP/1.1\r\nContent-Length: 10\r\n\r\n',
  'Transfer-Encoding: chunked\r\n\r\nffffffff\r\n', 'Connection: keep-alive\r\n', 'Expect: 100-continue\r\n',
  'Upgrade: websocket\r\n', '\n', '\r\n', ' ', '\0', 'x'.repeat(5000), '😀', '\\u0000',
]; // prettier-ignore

const places = ['control', 'site', 'metrics'] as const;
let composed: Composed;
let serving: ControlSocket;
let site: ControlSocket;
let metrics = '';

export const sockets: Subject = {
  name: 'sockets',

  async open() {
    const top = { metrics: '127.0.0.1:0' };
    composed = await Composed.open({
      name: 'sockets',
      keys: (files) => ({ source: `${files.disk()},removable` }),
      top,
    });
    const { service } = composed;
    metrics = service.metricsAddress!;
    serving = await serveControl(
      'serve-fuzz',
      controlHandler(service, () => Promise.reject(new Error('no file'))),
      {
        XDG_RUNTIME_DIR: tempFolder(),
      },
    );
    const handler = siteHandler(supervisor as unknown as Supervisor, '/logs', () => Promise.resolve());
    site = await serveControl('site-fuzz', handler, { XDG_RUNTIME_DIR: tempFolder() });
  },

  /** The first message says which socket. */
  generate: (random) => [Uint8Array.of(random.below(places.length)), piece(random), Uint8Array.of(10)],
  message: piece,

  async run(inputs) {
    const said = await Promise.all(inputs.map(one));
    const [input] = inputs;
    const answered = await within(goodClients());
    if (!answered) throw new FuzzError('a good request is not answered', input!);
    return said;
  },

  async close() {
    await site.close();
    await serving.close();
    await composed.close();
  },
};

/** A site without computers. */
const supervisor = {
  name: 'site',
  status: [],
  leases: [],
  checkComputer: () => undefined,
  moveLease: () => Promise.reject(new Error('there is no such device')),
  watch: (_computer: string, watcher: { over: () => void }) => {
    setImmediate(() => watcher.over());
    return () => undefined;
  },
  input: () => undefined,
};

async function goodClients(): Promise<void> {
  await askControl(serving.path, { command: 'status' });
  await askControl(site.path, { command: 'status' });
  const answer = await fetch(metrics);
  await answer.text();
}

async function within(work: Promise<void>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), patienceMs)));
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

function piece(random: Random): Uint8Array {
  return Uint8Array.from(text(random.pick(lines)));
}

/** One client. @returns the shape of its answer. */
async function one(input: Input): Promise<string> {
  const [[number = 0] = [], ...parts] = input;
  const place = places[number % places.length]!;
  const socket: Socket =
    place === 'metrics'
      ? connect(Number(new URL(metrics).port), '127.0.0.1')
      : connect(place === 'control' ? serving.path : site.path);
  const got: Buffer[] = [];
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => got.push(chunk));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise<void>((resolve) => socket.once('connect', resolve).once('close', () => resolve()));
  for (const part of parts) socket.write(part);
  const timer = setTimeout(() => socket.destroy(), join(...parts).includes(10) ? quietMs * 20 : quietMs);
  await closed;
  clearTimeout(timer);
  const answer = Buffer.concat(got).toString();
  return `${place} ${answer.slice(0, 40).replace(/\d+/g, 'N')}`;
}
