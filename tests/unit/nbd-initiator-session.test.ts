/**
 * The time between two connections: which requests are sent again, which fail and how, aborts, and
 * what a flush may claim.
 */
import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { LogLevel } from '../../src/base/log.js';
import { connectNbd, type NbdOptions } from '../../src/protocol/nbd/initiator/initiator.js';
import { NbdCommand, NbdError, TransmissionFlag } from '../../src/protocol/nbd/spec.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { FakeServer, usualTerms, type FakeRequest, type FakeTerms } from '../support/nbd-fake-server.js';
import { until } from '../support/event-loop.js';

/** Resolves when `condition` holds. */
function recorder() {
  const states: string[] = [];
  const lines: [LogLevel, string][] = [];
  return {
    states,
    lines,
    options: {
      onState: (state: string) => states.push(state),
      log: { log: (level: LogLevel, message: string) => lines.push([level, message]) },
    },
  };
}

async function setUp(terms: Partial<FakeTerms> = {}, options: NbdOptions = {}) {
  const server = new FakeServer(terms);
  const record = recorder();
  const device = await connectNbd(server.dialer(), { ...record.options, ...options });
  return { server, device, ...record };
}

/** Makes the server receive requests without answering. */
function hold(server: FakeServer): FakeRequest[] {
  const held: FakeRequest[] = [];
  server.answer = (request) => held.push(request);
  return held;
}

function serve(server: FakeServer): void {
  server.answer = (request) => server.serve(request);
}

/** Cuts the connection while requests are unanswered. The next connection works. */
function cut(server: FakeServer): void {
  serve(server);
  server.last.stream.destroy();
}

describe('a connection that is lost', () => {
  test('all requests in flight are run again, in order, in the same session', async () => {
    const { server, device, states, lines } = await setUp({ state: 'a' });
    const held = hold(server);
    const ones = new Uint8Array(4096).fill(1);
    const work = [
      writeBytes(device, 0, ones),
      device.writeZeroes(8192, 512),
      readBytes(device, 0, 512),
      device.flush(),
    ];
    await until(() => held.length === 4);
    server.requests.length = 0;
    cut(server);
    await Promise.all(work);
    expect(server.requests.map(({ type }) => type)).toEqual([
      NbdCommand.write,
      NbdCommand.writeZeroes,
      NbdCommand.read,
      NbdCommand.flush,
    ]);
    expect(server.content.subarray(0, 4096)).toEqual(ones);
    expect(server.connections.length).toBe(2);
    expect(server.connections[1]!.session).toBe(server.connections[0]!.session);
    expect(states).toEqual(['connected', 'reconnecting', 'connected']);
    expect(lines.map(([level]) => level)).toEqual(['warn', 'info']);
    await device.close();
    expect(states.at(-1)).toBe('closed');
  });

  test('a read that had part of its data comes whole from the new connection', async () => {
    const { server, device } = await setUp();
    const old = new Uint8Array(4096).fill(1);
    const fresh = new Uint8Array(4096).fill(2);
    server.answer = (request) => {
      if (server.connections.length === 1) {
        request.connection.data(request, 0, old.subarray(0, 2048), 0);
        setImmediate(() => setImmediate(() => request.connection.stream.destroy()));
      } else {
        server.serve(request);
      }
    };
    server.content.set(fresh, 0);
    expect(await readBytes(device, 0, 4096)).toEqual(fresh);
    await device.close();
  });

  test('requests that are issued meanwhile wait too', async () => {
    const { server, device } = await setUp();
    server.down = true;
    cut(server);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const write = writeBytes(device, 512, new Uint8Array(512).fill(5));
    const read = readBytes(device, 0, 512);
    await new Promise((resolve) => setTimeout(resolve, 250));
    server.down = false;
    await Promise.all([write, read]);
    expect(server.content[512]).toBe(5);
    await device.close();
  });

  test('after the reconnect time they fail, later ones at once, until the server is back', async () => {
    const { server, device, states } = await setUp({}, { reconnectSeconds: 0.3 });
    server.down = true;
    const held = hold(server);
    const before = readBytes(device, 0, 512);
    await until(() => held.length === 1);
    server.last.stream.destroy();
    const during = new Promise((resolve) => setTimeout(resolve, 50)).then(() => readBytes(device, 0, 512));
    await Promise.all([expectKind('unreachable', before), expectKind('unreachable', during)]);
    await expect(readBytes(device, 0, 512)).rejects.toThrow(
      /memory is not reachable for 0.3 seconds: connection refused/,
    );
    expect(states.at(-1)).toBe('lost');
    serve(server);
    server.down = false;
    await until(() => states.at(-1) === 'connected');
    await readBytes(device, 0, 512);
    await device.close();
  });

  test('without a reconnect time they fail at once, and it stays so', async () => {
    const { server, device, states } = await setUp({}, { reconnectSeconds: 0 });
    const held = hold(server);
    const read = readBytes(device, 0, 512);
    await until(() => held.length === 1);
    cut(server);
    await expectKind('unreachable', read);
    await new Promise((resolve) => setTimeout(resolve, 150));
    await expectKind('unreachable', readBytes(device, 0, 512));
    expect(server.connections.length).toBe(1);
    expect(states).toEqual(['connected', 'lost']);
    await device.close();
  });

  test('a request that kills the server every time finally fails', async () => {
    const { server, device } = await setUp({}, { reconnectSeconds: 0.4 });
    server.answer = (request) => {
      if (request.offset === 512) request.connection.stream.destroy();
      else server.serve(request);
    };
    await expectKind('unreachable', readBytes(device, 512, 512));
    await readBytes(device, 0, 512);
    expect(server.connections.length).toBeGreaterThan(1);
    await device.close();
  });

  test('a silent server is given up; a slow one is probed and kept', async () => {
    const { server, device } = await setUp({}, { stallSeconds: 0.2 });
    server.answer = (request) => {
      if (server.connections.length > 1) server.serve(request);
    };
    await readBytes(device, 512, 512);
    expect(server.connections.length).toBe(2);

    server.answer = (request) => {
      if (request.type === NbdCommand.flush) setTimeout(() => server.serve(request), 700);
      else server.serve(request);
    };
    await device.flush();
    expect(server.connections.length).toBe(2);
    await device.close();
  });

  test('a request that is never answered, although others are, has a time limit', async () => {
    const { server, device } = await setUp({}, { stallSeconds: 0.05 });
    server.answer = (request) => {
      if (server.connections.length > 1 || request.offset !== 512) server.serve(request);
    };
    let over = false;
    const others = (async () => {
      while (!over) {
        await readBytes(device, 0, 512);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    await readBytes(device, 512, 512);
    over = true;
    await others;
    await device.close();
  });

  test('NBD_ESHUTDOWN is answered with NBD_CMD_DISC, and the request is run again on a new connection', async () => {
    const { server, device } = await setUp();
    server.answer = (request) => {
      if (server.connections.length === 1) request.connection.simple(request, NbdError.shutdown);
      else server.serve(request);
    };
    await readBytes(device, 0, 512);
    expect(server.connections[0]!.disconnected).toBe(true);
    await device.close();
  });
});

describe('an export that has changed', () => {
  const changes: [string, Partial<FakeTerms>][] = [
    ['it has 524288 bytes and had 1048576', { size: 1 << 19 }],
    ['it has become read-only', { flags: usualTerms.flags | TransmissionFlag.readOnly }],
    ['its blocks have 4096 bytes and had 512', { blockSizes: [4096, 4096, 1 << 25] }],
    ['it takes 65536 bytes at once', { blockSizes: [512, 4096, 1 << 16] }],
    ['it can no longer do flush', { flags: usualTerms.flags & ~TransmissionFlag.sendFlush }],
    ['it can no longer do trim', { flags: usualTerms.flags & ~TransmissionFlag.sendTrim }],
    ['it can no longer do fast zeroing', { flags: usualTerms.flags & ~TransmissionFlag.sendFastZero }],
    ['it can no longer do extents', { allocation: false }],
    ['blocks of 3 bytes', { blockSizes: [3, 4096, 1 << 25] }],
  ];
  test.each(changes)('%s', async (what, terms) => {
    const { server, device, states } = await setUp();
    const held = hold(server);
    const read = readBytes(device, 0, 512);
    await until(() => held.length === 1);
    server.terms = { ...usualTerms, ...terms };
    server.requests.length = 0;
    cut(server);
    await expect(read).rejects.toThrow(what);
    await expectKind('io', read);
    await expectKind('io', writeBytes(device, 0, new Uint8Array(512)));
    expect(server.requests).toEqual([]);
    // The right server is accepted when it returns.
    server.terms = usualTerms;
    await until(() => states.at(-1) === 'connected');
    await readBytes(device, 0, 512);
    await device.close();
  });

  test('one with smaller blocks keeps its block size, even if it has grown', async () => {
    const { server, device } = await setUp();
    server.terms = { ...usualTerms, size: (2 << 20) + 3, blockSizes: [1, 4096, 1 << 25] };
    cut(server);
    await readBytes(device, 0, 512);
    expect(device.info).toMatchObject({ size: 2 << 20, blockSize: 512 });
    await device.close();
  });

  test('a larger one has its new size from then on; new abilities are not used', async () => {
    const { server, device } = await setUp({ flags: usualTerms.flags & ~TransmissionFlag.sendTrim });
    server.terms = { ...usualTerms, size: 2 << 20 };
    cut(server);
    await readBytes(device, 0, 512);
    expect(device.info.size).toBe(2 << 20);
    expect(device.info.can.trim).toBe(false);
    await device.close();
  });
});

describe('writes that were acknowledged but not flushed', () => {
  async function afterRestart(
    before: (device: Awaited<ReturnType<typeof setUp>>['device']) => Promise<unknown>,
    state = 'b',
  ) {
    const all = await setUp({ state: 'a' });
    await before(all.device);
    all.server.terms = { ...all.server.terms, state: state === '' ? undefined : state };
    cut(all.server);
    await readBytes(all.device, 0, 512);
    expect(all.server.connections.length).toBe(2);
    return all;
  }
  const block = new Uint8Array(512).fill(1);

  test.each(['b', ''])('the next flush fails if the server was restarted, and only that one (%j)', async (state) => {
    const { device, lines } = await afterRestart((one) => writeBytes(one, 0, block), state);
    await expectKind('io', device.flush());
    expect(lines.some(([level, message]) => level === 'error' && /1 writes .* may be lost/.test(message))).toBe(true);
    await device.flush();
    await writeBytes(device, 0, block);
    await device.flush();
    await device.close();
  });

  test('a flush in flight fails too', async () => {
    const { server, device } = await setUp({ state: 'a' });
    await writeBytes(device, 0, block);
    const held = hold(server);
    const flushes = [device.flush(), device.flush()];
    await until(() => held.length === 2);
    server.terms = { ...server.terms, state: 'b' };
    cut(server);
    await Promise.all(flushes.map((flush) => expectKind('io', flush)));
    await device.flush();
    await device.close();
  });

  test('no flush fails if no write could be lost', async () => {
    for (const before of [
      async (device: Awaited<ReturnType<typeof setUp>>['device']) => {
        await writeBytes(device, 0, block);
        await device.flush();
      },
      (device: Awaited<ReturnType<typeof setUp>>['device']) => device.write(0, buffersOf(block), { fua: true }),
      (device: Awaited<ReturnType<typeof setUp>>['device']) => readBytes(device, 0, 512),
    ]) {
      const { device } = await afterRestart(before);
      await device.flush();
      await device.close();
    }
    const { device } = await afterRestart((one) => writeBytes(one, 0, block), 'a');
    await device.flush();
    await device.close();
  });

  test('a flush covers only the writes that were acknowledged before it was sent', async () => {
    const { server, device } = await setUp({ state: 'a' });
    let flush: FakeRequest | undefined;
    server.answer = (request) => {
      if (request.type === NbdCommand.flush) flush = request;
      else server.serve(request);
    };
    const flushing = device.flush();
    await until(() => flush !== undefined);
    await writeBytes(device, 0, block);
    server.serve(flush!);
    await flushing;
    server.terms = { ...server.terms, state: 'b' };
    cut(server);
    await expectKind('io', device.flush());
    await device.close();
  });
});

describe('a request that is given up', () => {
  test('settles at once if it was not sent', async () => {
    const { server, device } = await setUp();
    server.down = true;
    cut(server);
    await until(() => server.last.stream.closed);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const control = new AbortController();
    const write = device.write(0, buffersOf(new Uint8Array(512).fill(9)), { signal: control.signal });
    control.abort();
    await expectKind('aborted', write);
    server.down = false;
    await readBytes(device, 0, 512);
    expect(server.requests.some(({ type }) => type === NbdCommand.write)).toBe(false);
    await device.close();
  });

  test('waits for its answer if it is in flight', async () => {
    const { server, device } = await setUp();
    const held = hold(server);
    const control = new AbortController();
    const write = device.write(0, buffersOf(new Uint8Array(512).fill(9)), { signal: control.signal });
    await until(() => held.length === 1);
    control.abort();
    let settled = false;
    void write.finally(() => (settled = true));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(settled).toBe(false);
    server.serve(held[0]!);
    await write;
    await device.close();
  });

  test.each(['before', 'after'])('is not run again after its connection was lost (%s)', async (when) => {
    const { server, device } = await setUp();
    const held = hold(server);
    const control = new AbortController();
    const write = device.write(0, buffersOf(new Uint8Array(512).fill(9)), { signal: control.signal });
    await until(() => held.length === 1);
    const over = expectKind('aborted', write);
    if (when === 'before') control.abort();
    server.requests.length = 0;
    cut(server);
    await until(() => server.last.stream.closed);
    await new Promise((resolve) => setTimeout(resolve, 5));
    control.abort();
    await over;
    await readBytes(device, 0, 512);
    expect(server.requests.map(({ type }) => type)).toEqual([NbdCommand.read]);
    await device.close();
  });
});

describe('closing', () => {
  test('waits for requests in flight, disconnects and ends', async () => {
    const { server, device } = await setUp();
    server.answer = (request) => setTimeout(() => server.serve(request), 20);
    const write = writeBytes(device, 0, new Uint8Array(512).fill(3));
    await device.close();
    await write;
    expect(server.last.disconnected).toBe(true);
    expect(server.content[0]).toBe(3);
    await expectKind('closed', readBytes(device, 0, 512));
  });

  test('does not wait for a server that does not hang up', async () => {
    const { server, device } = await setUp();
    server.last.stream.pause();
    await device.close();
    expect(server.last.disconnected).toBe(false);
  });

  test('while the connection is lost: ends soon, and dials no more', async () => {
    const { server, device, states } = await setUp({}, { reconnectSeconds: 0.2 });
    server.down = true;
    const held = hold(server);
    const read = readBytes(device, 0, 512);
    await until(() => held.length === 1);
    server.last.stream.destroy();
    const closing = device.close();
    await expectKind('unreachable', read);
    await closing;
    server.down = false;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(server.connections.length).toBe(1);
    expect(states.at(-1)).toBe('closed');
  });
});
