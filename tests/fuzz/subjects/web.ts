/**
 * WebSockets as a subject of fuzzing, in both roles: clients of the web server that `farbus serve
 * --web` composes, and servers that an `nbd+ws://` source calls. Whatever comes, a connection ends
 * and the next good client is served; and opening a source succeeds or fails with a FarbusError.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { FarbusError, messageOf } from '../../../src/base/errors.js';
import { openNbd } from '../../../src/protocol/nbd/initiator/open.node.js';
import type { Random } from '../../../src/conformance/random.js';
import { webService, type WebService } from '../../support/web-service.js';
import { infoData, optionBytes, requestBytes } from '../../unit/nbd-target-peer.js';
import { join, text } from '../harness/bytes.js';
import type { Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';

/** How long a client waits for an answer that may come, in ms. */
const quietMs = 20;
/** Stands for the token in inputs, which must be the same in every run. */
const tokenMark = 'TOKEN';

const upgrade = (path: string, protocol: string, more = ''): string =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n${more}` +
  `Authorization: Bearer ${tokenMark}\r\n\r\n`;
const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
const heads = [
  upgrade('/nbd/disk', 'websocket', key), upgrade('/nbd/disk', 'websocket', key), upgrade('/nbd/disk', 'nbd'),
  upgrade('/api/events', 'websocket', key), upgrade('/nbd/disk', 'websocket', `${key}Sec-WebSocket-Protocol: nbd\r\n`),
  upgrade('/nbd/disk', 'websocket', `${key}Sec-WebSocket-Extensions: permessage-deflate\r\n`), upgrade('/', 'h2c'),
  upgrade('/nbd/disk', 'websocket', 'Sec-WebSocket-Key: x\r\n'), upgrade('/nbd/%zz', 'nbd'),
  `GET /api/exports HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${tokenMark}\r\n\r\n`,
  `POST /api/exports/disk/eject HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}`,
  'GET / HTTP/1.0\r\n\r\n', 'GET http://a/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n',
]; // prettier-ignore

const roles = ['server', 'client'] as const;
let service: WebService;
let fake: Server;
/** Inputs of fake servers by the name of the export that is asked for. */
const plays = new Map<string, readonly Uint8Array[]>();
let count = 0;

export const web: Subject = {
  name: 'web',
  // Fewer than the connections without a token that the server holds.
  batch: 16,

  async open() {
    service = await webService('disk=memory:1M');
    fake = createServer(play).listen(0, '127.0.0.1');
    await once(fake, 'listening');
  },

  /** The first message says the role. */
  generate: (random) =>
    random.chance(0.5)
      ? [Uint8Array.of(0), text(random.pick(heads)), message(random), message(random)]
      : [Uint8Array.of(1), frame(random, greeting, false), frame(random, message(random), false)],
  message,

  async run(inputs) {
    const said = await Promise.all(
      inputs.map((input) => (roleOf(input) === 'server' ? asClient(input) : asServer(input))),
    );
    const answer = await service.get('/api/exports');
    if (answer.status !== 200) throw new FuzzError('a good request is not answered', inputs[0]!);
    return said;
  },

  async close() {
    const disk = await openNbd(`nbd+ws://${service.at}/disk?token=${service.token}`);
    await disk.read(0, new Uint8Array(512));
    await disk.close();
    await service.close();
    fake.close();
  },
};

const greeting = join(text('NBDMAGICIHAVEOPT'), Uint8Array.of(0, 3));

function roleOf(input: Input): (typeof roles)[number] {
  return roles[(input[0]?.[0] ?? 0) % roles.length]!;
}

/** A frame with a part of an NBD conversation, sound or not. */
function message(random: Random): Uint8Array {
  const parts = [
    join(Uint8Array.of(0, 0, 0, 3), optionBytes(7, infoData('disk', []))),
    optionBytes(1, text('disk')),
    requestBytes({ command: 0, offset: 0, length: 512 }),
    requestBytes({ command: 0, offset: 0, length: 1 << 20 }),
    text('{"type":"state"}'),
    new Uint8Array(0),
    Uint8Array.of(3, 0xe8),
  ];
  return frame(random, random.pick(parts), true);
}

/** A frame of RFC 6455 §5.2, whose opcode, flags and length may be wrong. */
function frame(random: Random, payload: Uint8Array, masked: boolean): Uint8Array {
  const opcode = random.pick([2, 2, 2, 2, 0, 1, 8, 9, 10, 3]);
  const first = opcode | (random.chance(0.8) ? 0x80 : 0) | (random.chance(0.05) ? 0x40 : 0);
  const isMasked = random.chance(0.97) ? masked : !masked;
  const said = random.chance(0.95) ? payload.length : random.pick([0, 125, 65_535, 2 ** 31, 2 ** 40]);
  const head = new DataView(new ArrayBuffer(10));
  head.setUint8(0, first);
  const bit = isMasked ? 0x80 : 0;
  let length = 2;
  if (said < 126) head.setUint8(1, bit | said);
  else if (said < 65_536) {
    head.setUint8(1, bit | 126);
    head.setUint16(2, said);
    length = 4;
  } else {
    head.setUint8(1, bit | 127);
    head.setBigUint64(2, BigInt(said));
    length = 10;
  }
  // The mask is zero, so the payload stays as it is.
  return join(new Uint8Array(head.buffer, 0, length), isMasked ? new Uint8Array(4) : new Uint8Array(0), payload);
}

/** Sends an input to the web server. @returns the shape of the answer. */
async function asClient([, ...parts]: Input): Promise<string> {
  const [host, port] = service.at.split(':') as [string, string];
  const socket: Socket = connect(Number(port), host);
  const got: Buffer[] = [];
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => got.push(chunk));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise<void>((resolve) => socket.once('connect', resolve).once('close', () => resolve()));
  for (const part of parts) socket.write(withToken(part));
  const timer = setTimeout(() => socket.destroy(), quietMs);
  await closed;
  clearTimeout(timer);
  const answer = Buffer.concat(got).toString('latin1');
  const [status = ''] = answer.split('\r\n', 1);
  return `server ${status.slice(0, 20)} ${answer.length > 0 ? Math.ceil(Math.log2(answer.length)) : ''}`;
}

function withToken(bytes: Uint8Array): Uint8Array {
  const at = Buffer.from(bytes).indexOf(tokenMark);
  if (at < 0) return bytes;
  return join(bytes.subarray(0, at), text(service.token), bytes.subarray(at + tokenMark.length));
}

/** Opens a source whose server plays the input. @returns the shape of the outcome. */
async function asServer(input: Input): Promise<string> {
  const name = String(count++);
  plays.set(name, input.slice(1));
  const { port } = fake.address() as AddressInfo;
  try {
    const disk = await openNbd(`nbd+ws://127.0.0.1:${port}/${name}`, { reconnectSeconds: 0, connectSeconds: 20 });
    await disk.close();
    return 'client opened';
  } catch (error) {
    if (!(error instanceof FarbusError)) throw new FuzzError('an error that is not for people', input, error);
    return `client ${messageOf(error).replace(/\d+/g, 'N').slice(0, 120)}`;
  } finally {
    plays.delete(name);
  }
}

/** Answers the handshake as RFC 6455 §4.2.2 demands, sends the input, and closes. */
function play(socket: Socket): void {
  let head = '';
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    if (head.includes('\r\n\r\n')) return;
    head += chunk.toString('latin1');
    if (!head.includes('\r\n\r\n')) return;
    const [, name = ''] = /^GET \/nbd\/(\S+)/.exec(head) ?? [];
    const [, asked = ''] = /sec-websocket-key: (\S+)/i.exec(head) ?? [];
    const accept = createHash('sha1').update(`${asked}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
    socket.write(
      `${[...lines, `Sec-WebSocket-Accept: ${accept}`, 'Sec-WebSocket-Protocol: nbd'].join('\r\n')}\r\n\r\n`,
    );
    for (const part of plays.get(name) ?? []) socket.write(part);
    setTimeout(() => socket.destroy(), quietMs);
  });
}
