/**
 * The initiator with extended headers ([EXT]): long ranges, block status with a payload, and false
 * replies.
 */
import { describe, expect, test } from 'vitest';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import {
  NbdCommand,
  CommandFlag,
  NbdError,
  ReplyFlag,
  ReplyType,
  TransmissionFlag,
} from '../../src/protocol/nbd/spec.js';
import { readBytes } from '../../src/conformance/subject.js';
import {
  FakeServer,
  allocationId,
  extendedChunk,
  join,
  simpleReply,
  structuredChunk,
  usualTerms,
  type Answer,
  type FakeRequest,
  type FakeTerms,
} from '../support/nbd-fake-server.js';
import { u16, u32, u64 } from '../support/numbers.js';

const size = 2 ** 44;

async function connected(terms: Partial<FakeTerms> = {}, answer?: Answer) {
  const server = new FakeServer({ extended: true, size, ...terms });
  if (answer) server.answer = answer;
  const device = await connectNbd(server.dialer());
  return { server, device };
}

const asked = ({ type, offset, length }: FakeRequest) => [type, offset, length];

describe('ranges of more than 32 bits', () => {
  test('trim, fast zeroes and block status are one request, zeroes are split so that each part ends in time', async () => {
    const { server, device } = await connected();
    await device.trim(512, 2 ** 43);
    await device.writeZeroes(512, 2 ** 43, { fastOnly: true });
    expect(await device.extents(512, 2 ** 43)).toEqual([{ offset: 512, length: 2 ** 43, hole: false, zero: false }]);
    expect(server.requests.map(asked)).toEqual([
      [NbdCommand.trim, 512, 2 ** 43],
      [NbdCommand.writeZeroes, 512, 2 ** 43],
      [NbdCommand.blockStatus, 512, 2 ** 43],
    ]);
    server.requests.length = 0;
    await device.writeZeroes(0, 2 ** 34 + 512);
    expect(server.requests.map(asked)).toEqual([
      [NbdCommand.writeZeroes, 0, 2 ** 33],
      [NbdCommand.writeZeroes, 2 ** 33, 2 ** 33],
      [NbdCommand.writeZeroes, 2 ** 34, 512],
    ]);
    await device.close();
  });

  test('a server that refuses them gets shorter ones', async () => {
    const { server, device } = await connected({ blockSizes: [512, 4096, 1 << 20] }, (request) => {
      if (request.length <= 1 << 30) return server.serve(request);
      const text = new TextEncoder().encode('too long');
      request.connection.chunk(request, ReplyType.error, join(u32(NbdError.overflow), u16(text.length), text));
    });
    await device.trim(0, 3 * 2 ** 30);
    expect(server.requests.map(({ length }) => length)).toEqual([3 * 2 ** 30, 2 ** 30, 2 ** 30, 2 ** 30]);
    await device.close();
  });
});

test('block status asks for base:allocation only if there are other contexts', async () => {
  const flags = usualTerms.flags | TransmissionFlag.blockStatusPayload;
  const { server, device } = await connected({ flags, state: 'x' }, (request) => {
    const wide = join(u32(allocationId), u32(2), u64(4096n), u64(3n), u64(2n ** 40n), u64(0n));
    request.connection.chunk(request, ReplyType.blockStatusExtended, wide);
  });
  expect(await device.extents(0, 2 ** 40)).toEqual([
    { offset: 0, length: 4096, hole: true, zero: true },
    { offset: 4096, length: 2 ** 40 - 4096, hole: false, zero: false },
  ]);
  const [request] = server.requests;
  expect(request!.flags & CommandFlag.payloadLength).toBe(CommandFlag.payloadLength);
  expect(request!.payload).toEqual(join(u64(2n ** 40n), u32(allocationId)));
  await device.close();
});

test('a status of another context is ignored', async () => {
  const { device } = await connected({ state: 'x' }, (request) => {
    const other = join(u32(99), u32(1), u64(4096n), u64(2n ** 63n));
    request.connection.chunk(request, ReplyType.blockStatusExtended, other, 0);
    const wide = join(u32(allocationId), u32(1), u64(4096n), u64(2n));
    request.connection.chunk(request, ReplyType.blockStatusExtended, wide);
  });
  expect(await device.extents(0, 4096)).toEqual([{ offset: 0, length: 4096, hole: false, zero: true }]);
  await device.close();
});

const status = (...parts: Uint8Array[]) => join(u32(allocationId), ...parts);
const done = ReplyFlag.done;
type Lie = (request: FakeRequest) => Uint8Array;
const lies: [string, number, Lie][] = [
  ['a simple reply', NbdCommand.read, (r) => simpleReply(r.cookie, 0, new Uint8Array(512))],
  ['a structured reply', NbdCommand.read, (r) => structuredChunk(r.cookie, ReplyType.none, new Uint8Array(12), done)],
  [
    'another offset',
    NbdCommand.read,
    (r) => extendedChunk({ ...r, offset: 512 }, ReplyType.none, new Uint8Array(0), done),
  ],
  ['a wrong cookie', NbdCommand.read, (r) => extendedChunk({ ...r, cookie: 5n << 33n }, ReplyType.none, u32(0), done)],
  [
    'a length beyond all',
    NbdCommand.read,
    (r) => join(extendedChunk(r, ReplyType.offsetData, new Uint8Array(0), done).slice(0, 24), u64(2n ** 62n)),
  ],
  ['success with bytes missing', NbdCommand.read, (r) => extendedChunk(r, ReplyType.none, new Uint8Array(0), done)],
  [
    'a block status of 32 bits',
    NbdCommand.blockStatus,
    (r) => extendedChunk(r, ReplyType.blockStatus, status(u32(4096), u32(0)), done),
  ],
  [
    'a miscounted block status',
    NbdCommand.blockStatus,
    (r) => extendedChunk(r, ReplyType.blockStatusExtended, status(u32(2), u64(4096n), u64(0n)), done),
  ],
  [
    'a block status of no bytes',
    NbdCommand.blockStatus,
    (r) => extendedChunk(r, ReplyType.blockStatusExtended, status(u32(1), u64(0n), u64(0n)), done),
  ],
];
test.each(lies)('%s ends the connection, and the request is run again on the next', async (_what, type, lie) => {
  const { server, device } = await connected({}, (request) => {
    if (server.connections.length === 1) request.connection.send(lie(request));
    else server.serve(request);
  });
  if (type === NbdCommand.read) expect(await readBytes(device, 0, 512)).toEqual(new Uint8Array(512));
  else expect(await device.extents(0, 4096)).toHaveLength(1);
  expect(server.connections).toHaveLength(2);
  await device.close();
});

test('a server that has lost extended headers between two connections is not the same export', async () => {
  const { server, device } = await connected();
  server.terms = { ...server.terms, extended: false };
  server.last.stream.destroy();
  await expect(device.trim(0, 2 ** 40)).rejects.toThrow(/can no longer do extended headers/);
  await device.close();
});
