/**
 * Several connections to one export: distribution of requests, flushes, and the loss of some of the
 * connections.
 */
import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { connectNbd, type NbdOptions } from '../../src/protocol/nbd/initiator/initiator.js';
import { NbdCommand, TransmissionFlag } from '../../src/protocol/nbd/spec.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import {
  FakeServer,
  usualTerms,
  type FakeConnection,
  type FakeRequest,
  type FakeTerms,
} from '../support/nbd-fake-server.js';
import { nextIteration, until } from '../support/event-loop.js';

const flags = usualTerms.flags | TransmissionFlag.canMultiConn;
const block = (value: number): Uint8Array => new Uint8Array(512).fill(value);
async function setUp(terms: Partial<FakeTerms> = {}, options: NbdOptions = {}) {
  const server = new FakeServer({ flags, state: 'life-1', ...terms });
  const states: string[] = [];
  const device = await connectNbd(server.dialer(), {
    connections: 4,
    onState: (state) => states.push(state),
    ...options,
  });
  return { server, device, states };
}

/** Makes the server receive requests without answering. */
function hold(server: FakeServer): FakeRequest[] {
  const held: FakeRequest[] = [];
  server.answer = (request) => held.push(request);
  return held;
}

const serve = (server: FakeServer) => (server.answer = (request) => server.serve(request));
const placeOf = (server: FakeServer, connection: FakeConnection) => server.connections.indexOf(connection);

describe('opening', () => {
  test('opens as many as asked, each with its own session', async () => {
    const { server, device, states } = await setUp();
    expect(server.connections).toHaveLength(4);
    expect(new Set(server.connections.map(({ session }) => session)).size).toBe(4);
    expect(states).toEqual(['connected']);
    await device.close();
    expect(server.connections.every(({ disconnected }) => disconnected)).toBe(true);
    expect(states).toEqual(['connected', 'closed']);
  });

  test('opens one if the server does not promise multi-connection consistency', async () => {
    const { server, device } = await setUp({ flags: usualTerms.flags });
    expect(server.connections).toHaveLength(1);
    await device.close();
  });

  test('opens fewer if the server accepts no more', async () => {
    const server = new FakeServer({ flags });
    const dialer = server.dialer();
    let dialled = 0;
    const limited = {
      address: dialer.address,
      connect: (signal: AbortSignal) => (++dialled > 2 ? Promise.reject(new Error('enough')) : dialer.connect(signal)),
    };
    const lines: string[] = [];
    const log = { log: (_level: string, message: string) => void lines.push(message) };
    const device = await connectNbd(limited, { connections: 4, log });
    expect(server.connections).toHaveLength(2);
    expect(lines).toEqual(['one connection less: enough', 'one connection less: enough']);
    await writeBytes(device, 0, block(1));
    await device.close();
  });

  test('opens none if the number is impossible', async () => {
    for (const connections of [0, 17, 1.5, Number.NaN]) {
      await expect(connectNbd(new FakeServer().dialer(), { connections })).rejects.toThrow(/1 to 16/);
    }
  });
});

test('requests are spread, and flushes go over the first', async () => {
  const { server, device } = await setUp();
  const held = hold(server);
  const writes = Array.from({ length: 8 }, (_, index) => writeBytes(device, index * 512, block(index)));
  await until(() => held.length === 8);
  const counts = [0, 0, 0, 0];
  for (const { connection } of held) counts[placeOf(server, connection)]!++;
  expect(counts).toEqual([2, 2, 2, 2]);
  for (const request of held) server.serve(request);
  await Promise.all(writes);
  serve(server);
  await device.flush();
  await device.flush();
  const flushes = server.requests.filter(({ type }) => type === NbdCommand.flush);
  expect(flushes.map(({ connection }) => placeOf(server, connection))).toEqual([0, 0]);
  await device.close();
});

describe('when one is lost', () => {
  test('its requests are run again on a new connection of the same session; the others continue', async () => {
    const { server, device, states } = await setUp();
    const held = hold(server);
    const writes = Array.from({ length: 8 }, (_, index) => writeBytes(device, index * 512, block(index + 1)));
    await until(() => held.length === 8);
    serve(server);
    const lost = server.connections[2]!;
    lost.stream.destroy();
    for (const request of held) if (request.connection !== lost) server.serve(request);
    await Promise.all(writes);
    expect(server.connections).toHaveLength(5);
    expect(server.connections[4]!.session).toBe(lost.session);
    for (let index = 0; index < 8; index++) {
      expect(await readBytes(device, index * 512, 512)).toEqual(block(index + 1));
    }
    expect(states).toEqual(['connected', 'reconnecting', 'connected']);
    await device.close();
  });

  test('a cancelled write ends only when the server has fenced it: no later write can be overtaken', async () => {
    const { server, device } = await setUp({}, { reconnectSeconds: 30 });
    const held = hold(server);
    const control = new AbortController();
    let over = false;
    const write = device.write(0, buffersOf(block(1)), { signal: control.signal }).then(
      () => 'done',
      (error: { kind: string }) => error.kind,
    );
    void write.then(() => (over = true));
    await until(() => held.length === 1);
    server.down = true;
    held[0]!.connection.stream.destroy();
    await until(() => server.connections.length === 4);
    await nextIteration();
    await nextIteration();
    control.abort();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(over).toBe(false);
    serve(server);
    server.down = false;
    expect(await write).toBe('aborted');
    expect(server.connections).toHaveLength(5);
    // The write was not sent again.
    expect(server.requests.filter(({ type }) => type === NbdCommand.write)).toHaveLength(1);
    await device.close();
  });

  test('and cannot be restored, all requests fail until it is back', async () => {
    const { server, device, states } = await setUp({}, { reconnectSeconds: 0.2 });
    server.down = true;
    server.connections[3]!.stream.destroy();
    await until(() => states.includes('lost'));
    await expectKind('unreachable', writeBytes(device, 0, block(1)));
    await expectKind('unreachable', device.flush());
    server.down = false;
    await until(() => states.at(-1) === 'connected');
    await writeBytes(device, 0, block(2));
    expect(await readBytes(device, 0, 512)).toEqual(block(2));
    await device.close();
  });
});

describe('a server that was restarted', () => {
  /** Cuts connections. After that, the server reports a new STATE, as if restarted. */
  function restart(server: FakeServer, connections: readonly FakeConnection[]): void {
    server.terms = { ...server.terms, state: 'life-2' };
    for (const connection of connections) connection.stream.destroy();
  }

  test.each([[[1]], [[0]], [[0, 1, 2, 3]], [[3, 2, 1, 0]]])(
    'makes the next flush fail, on any of the connections that notice: %j',
    async (noticing) => {
      const { server, device, states } = await setUp();
      await Promise.all(Array.from({ length: 8 }, (_, index) => writeBytes(device, index * 512, block(1))));
      const before = [...server.connections];
      restart(
        server,
        noticing.map((index) => before[index]!),
      );
      await until(() => server.connections.length === 4 + noticing.length && states.at(-1) === 'connected');
      await expect(device.flush()).rejects.toThrow(/restarted: 8 writes/);
      await device.flush();
      await device.close();
    },
  );

  test('no write is reported as lost that a flush on the first connection covered', async () => {
    const { server, device } = await setUp();
    await Promise.all(Array.from({ length: 8 }, (_, index) => writeBytes(device, index * 512, block(1))));
    await device.flush();
    restart(server, [...server.connections]);
    await until(() => server.connections.length === 8);
    await device.flush();
    await device.close();
  });

  test("an answer of its earlier life that comes after another connection's news counts as lost", async () => {
    const { server, device } = await setUp();
    const held = hold(server);
    const write = writeBytes(device, 0, block(1));
    await until(() => held.length === 1);
    serve(server);
    const other = server.connections.find((one) => one !== held[0]!.connection)!;
    restart(server, [other]);
    await until(() => server.connections.length === 5);
    await readBytes(device, 0, 512);
    server.serve(held[0]!);
    await write;
    await expect(device.flush()).rejects.toThrow(/restarted: 1 writes/);
    await device.close();
  });
});
