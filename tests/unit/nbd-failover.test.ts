/**
 * Several gateways of one export: to which one the initiator goes when one is lost, and what it
 * must not do without a fence (docs/failover.md).
 */
import { describe, expect, test } from 'vitest';
import type { LogLevel } from '../../src/base/log.js';
import { connectNbd, type NbdOptions } from '../../src/protocol/nbd/initiator/initiator.js';
import { TransmissionFlag } from '../../src/protocol/nbd/spec.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { until } from '../support/event-loop.js';
import { FakeServer, usualTerms, type FakeRequest, type FakeTerms } from '../support/nbd-fake-server.js';

const data = new Uint8Array(4096).fill(7);

/** A device over two gateways, which has written and flushed a block. */
async function twoGateways(first: Partial<FakeTerms>, second: Partial<FakeTerms> = first, options: NbdOptions = {}) {
  const [one, two] = [new FakeServer(first), new FakeServer(second)];
  const lines: [LogLevel, string][] = [];
  const device = await connectNbd(
    { ...one.dialer(), address: 'first' },
    {
      others: [{ dialer: { ...two.dialer(), address: 'second' } }],
      address: 'both',
      log: { log: (level, message) => lines.push([level, message]) },
      ...options,
    },
  );
  if (!device.info.readOnly) {
    await writeBytes(device, 0, data);
    await device.flush();
  } else {
    one.content.set(data);
    await readBytes(device, 0, 4096);
  }
  two.content.set(one.content);
  return { one, two, device, lines };
}

function held(server: FakeServer): FakeRequest[] {
  const requests: FakeRequest[] = [];
  server.answer = (request) => requests.push(request);
  return requests;
}

const texts = (lines: readonly [LogLevel, string][]): string => lines.map(([, text]) => text).join('\n');

describe('a device with two gateways', () => {
  test('goes to the next one if its storage fences the lost one, and repeats what was in flight', async () => {
    const { one, two, device, lines } = await twoGateways({ state: 'shared.x' });
    expect(two.connections).toHaveLength(0);
    expect(device.info.route).toBe('first');
    const requests = held(one);
    const work = [writeBytes(device, 4096, data), readBytes(device, 0, 512)];
    await until(() => requests.length === 2);
    one.last.stream.destroy();
    await Promise.all(work);
    expect(two.content.subarray(4096, 8192)).toEqual(data);
    expect(two.connections[0]!.session).toBe(one.connections[0]!.session);
    expect(device.info.route).toBe('second');
    expect(texts(lines)).toMatch(/connection lost.*\n.* at second now, 2 requests waited/);
    // No acknowledged write was in the memory of the lost gateway.
    await device.flush();
    await device.close();
  });

  test('for reading goes to the next one without a fence', async () => {
    const readOnly = { flags: usualTerms.flags | TransmissionFlag.readOnly };
    const { one, two, device, lines } = await twoGateways(readOnly);
    const requests = held(one);
    const read = readBytes(device, 0, 4096);
    await until(() => requests.length === 1);
    one.last.stream.destroy();
    expect(await read).toEqual(data);
    expect(two.connections).toHaveLength(1);
    expect(texts(lines)).not.toMatch(/fence/);
    await device.close();
  });

  test('that may write waits for the lost one without a fence, and says so at the start', async () => {
    const { one, two, device, lines } = await twoGateways({ state: 'boot-1' });
    expect(texts(lines)).toMatch(/both: the gateways have no fence: requests wait for the one that is lost/);
    const requests = held(one);
    const work = writeBytes(device, 4096, data);
    await until(() => requests.length === 1);
    one.answer = (request) => one.serve(request);
    one.last.stream.destroy();
    await work;
    expect(one.connections).toHaveLength(2);
    expect(two.connections).toHaveLength(0);
    await device.close();
  });

  test('goes to one without a fence if the user says so, and tells of writes that may be lost', async () => {
    const { one, two, device, lines } = await twoGateways({ state: 'a' }, { state: 'b' }, { unfenced: true });
    await writeBytes(device, 8192, data);
    const requests = held(one);
    const work = writeBytes(device, 4096, data);
    await until(() => requests.length === 1);
    one.last.stream.destroy();
    await work;
    expect(two.content.subarray(4096, 8192)).toEqual(data);
    await expectKind('io', device.flush());
    await device.flush();
    expect(texts(lines)).not.toMatch(/have no fence/);
    await device.close();
  });

  test('does not go to one with other storage', async () => {
    const { one, two, device } = await twoGateways({ state: 'shared.x' }, { state: 'shared.y' });
    const requests = held(one);
    const work = writeBytes(device, 4096, data);
    await until(() => requests.length === 1);
    one.answer = (request) => one.serve(request);
    one.last.stream.destroy();
    await work;
    expect(two.content.subarray(4096, 8192)).not.toEqual(data);
    expect(one.content.subarray(4096, 8192)).toEqual(data);
    await device.close();
  });

  test('does not go to one with another disk, even if its storage fences', async () => {
    const { one, two, device } = await twoGateways({ state: 'shared.x' });
    two.content.fill(9);
    const requests = held(one);
    const work = writeBytes(device, 4096, data);
    await until(() => requests.length === 1);
    one.answer = (request) => one.serve(request);
    one.last.stream.destroy();
    await work;
    expect(two.content.subarray(4096, 8192)).toEqual(new Uint8Array(4096).fill(9));
    await device.close();
  });

  test('opens with the second one if the first does not answer', async () => {
    const two = new FakeServer({ state: 'shared.x' });
    const dead = { address: 'dead', connect: () => Promise.reject(new Error('connection refused')) };
    const device = await connectNbd(dead, { others: [{ dialer: two.dialer() }] });
    await writeBytes(device, 0, data);
    expect(two.content.subarray(0, 4096)).toEqual(data);
    await device.close();
    const all = connectNbd(dead, { others: [{ dialer: { ...dead, address: 'dead too' } }] });
    await expect(all).rejects.toThrow(/connection refused; .*connection refused/);
  });

  test('has all its connections at one gateway', async () => {
    const several = { state: 'shared.x', flags: usualTerms.flags | TransmissionFlag.canMultiConn };
    const { one, two, device, lines } = await twoGateways(several, several, { connections: 3 });
    expect([one.connections.length, two.connections.length]).toEqual([3, 0]);
    one.connections[1]!.stream.destroy();
    await until(() => two.connections.length === 3);
    await Promise.all(Array.from({ length: 8 }, (_, at) => writeBytes(device, at * 4096, data)));
    expect(two.content.subarray(0, 32768)).toEqual(new Uint8Array(32768).fill(7));
    expect(texts(lines)).toMatch(/at second now/);
    await device.close();
  });
});
