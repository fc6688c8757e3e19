/**
 * `farbus serve` as a process, as a subject of fuzzing: hostile clients by its unix socket, plain
 * or inside TLS after STARTTLS. What can be seen from outside: the process lives, answers another
 * client, stays within its memory, and ends at SIGTERM.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { NbdInitiator } from '../../../src/protocol/nbd/initiator/initiator.js';
import { openNbd } from '../../../src/protocol/nbd/initiator/open.node.js';
import { readBytes } from '../../../src/conformance/subject.js';
import { ServeProcess } from '../../support/server.js';
import { authority } from '../../support/tls-certificates.js';
import { tempPath } from '../../support/temp.js';
import { join, pack } from '../harness/bytes.js';
import { exportFill, exportSize } from '../harness/compositions.js';
import type { Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import type { Random } from '../../../src/conformance/random.js';
import { serve } from './serve.js';

/**
 * How long a client waits for more when nothing comes, in ms; and for what must come: only a hang
 * reaches that.
 */
const quietMs = 15;
const patienceMs = 30_000;
/** Most resident memory of the process, in bytes. */
const maxMemory = 1 << 30;

interface Server {
  readonly process: ServeProcess;
  readonly socket: string;
  readonly neighbour: NbdInitiator;
}

/**
 * How a client's messages go: as they are; as TLS records that are none, after STARTTLS; inside
 * TLS.
 */
const ways = ['plain', 'garbage', 'tls'] as const;
let servers: readonly Server[] = [];

export const serveProcess: Subject = {
  name: 'process',
  batch: 32,

  async open() {
    const { folder } = authority();
    const tls = ['--tls-certificates', folder];
    servers = [await start([], ''), await start(tls, `&tls-certificates=${folder}&tls-hostname=localhost`)];
  },

  generate: (random) => [way(random), ...serve.generate(random)],
  message: (random) => (random.once(16) ? way(random) : serve.message(random)),

  async run(inputs) {
    const said = await Promise.all(inputs.map(one));
    for (const { process, neighbour } of servers) {
      const read = readBytes(neighbour, 0, 4096).then((bytes) => bytes.every((byte) => byte === exportFill));
      const answer = await Promise.race([read, after(patienceMs)]);
      if (answer !== true)
        throw new FuzzError(answer === false ? 'it reads other bytes' : 'it does not answer', inputs[0]!);
      if (memoryOf(process.pid) > maxMemory) throw new FuzzError('it holds too much memory', inputs[0]!);
    }
    return said;
  },

  async close() {
    for (const { process, neighbour } of servers) {
      await neighbour.close();
      await process.stop();
    }
  },
};

function way(random: Random): Uint8Array {
  return Uint8Array.of(random.below(ways.length));
}

const after = (ms: number): Promise<undefined> =>
  new Promise((resolve) => setTimeout(() => resolve(undefined), ms).unref());

function memoryOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}

/** Starts a server of two files, one of which is behind a cache and an overlay. */
async function start(options: readonly string[], query: string): Promise<Server> {
  const socket = tempPath('s');
  const [disk, base, neighbour] = ['d.img', 'b.img', 'n.img'].map((name) => {
    const path = tempPath(name);
    writeFileSync(path, new Uint8Array(exportSize).fill(exportFill));
    return path;
  });
  const process = new ServeProcess(socket, [
    ...options,
    `disk=raw:${disk}`,
    `other=raw:${base},cache=${tempPath('cache')},overlay=${tempPath('overlay')}`,
    `neighbour=raw:${neighbour},read-only`,
  ]);
  await process.start();
  const uri = `nbd${query === '' ? '' : 's'}+unix:///neighbour?socket=${socket}${query}`;
  return { process, socket, neighbour: await openNbd(uri) };
}

/** One client. @returns how much it was answered. */
async function one(input: Input): Promise<string> {
  const [[number = 0] = [], ...messages] = input;
  const kind = ways[number % ways.length]!;
  const server = servers[kind === 'plain' ? 0 : 1]!;
  const socket = connect(server.socket);
  socket.on('error', () => undefined);
  if (kind === 'plain') return `plain ${await converse(socket, messages)}`;
  // The client's flags, and STARTTLS: 16 bytes. The server answers with a greeting and an
  // acknowledgement.
  socket.write(join(pack([3, 4], [0x49484156454f5054n, 8], [5, 4], [0, 4])));
  await new Promise<void>((resolve) => {
    let length = 0;
    socket.on('data', (chunk: Buffer) => (length += chunk.length) >= 38 && resolve());
    socket.once('close', () => resolve());
  });
  socket.removeAllListeners('data');
  if (kind === 'garbage') return `garbage ${await converse(socket, messages)}`;
  const secure = connectTls({ socket, rejectUnauthorized: false });
  secure.on('error', () => undefined);
  await new Promise<void>((resolve) => secure.once('secureConnect', resolve).once('close', () => resolve()));
  // Over TLS the client's flags are not sent again.
  return `tls ${await converse(secure, messages.slice(1))}`;
}

async function converse(socket: Socket, messages: readonly Uint8Array[]): Promise<string> {
  let length = 0;
  let ended = '';
  const over = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  let timer = setTimeout(() => undefined, 0);
  const wait = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.destroy(), quietMs);
  };
  socket.on('data', (chunk: Buffer) => {
    length += chunk.length;
    wait();
  });
  socket.on('end', () => (ended = 'ended'));
  for (const message of messages) socket.write(message);
  wait();
  await over;
  clearTimeout(timer);
  return `${Math.ceil(Math.log2(length + 1))} ${ended}`;
}
