/**
 * Trace steps of the virtual I/O client and server over NBD ([SYS] fig. 8, 9 and 10): the server
 * reports its steps under the cookie that the client has reported.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import { Steps, type Step } from '../../src/base/steps.js';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { memoryDialer, type MemoryStream } from '../support/stream-pair.js';

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

describe('the steps of a request by NBD', () => {
  it('of a read are those of fig. 10 under the cookie of step 262', async () => {
    const { disk, client, server } = await start();
    await disk.read(100 * 4096, buffersOf(new Uint8Array(4096)), { traceId: 7 });
    expect(client).toHaveLength(1);
    const [sent] = client;
    expect(sent).toMatchObject({ traceId: 7, id: '262', detail: `NBD cookie #${sent!.wire}: read sectors 800..807` });
    expect(server.map(({ id }) => id)).toEqual(['280', '281', '288', '282', '283', '284']);
    expect(server.every(({ traceId }) => traceId === sent!.wire)).toBe(true);
    expect(server[1]!.detail).toBe('it is for the export "disk"');
    expect(server[2]!.detail).toBe('read sectors 800..807');
    expect(server.every(({ time }, i) => i === 0 || time >= server[i - 1]!.time)).toBe(true);
  });

  it.each([
    ['short', 4096],
    ['long, which goes to the device as it comes', 256 << 10],
  ])('of a %s write likewise', async (_, length) => {
    const { disk, client, server } = await start();
    await disk.write(0, buffersOf(new Uint8Array(length)), { traceId: 8 });
    expect(client.map(({ traceId, id }) => [traceId, id])).toEqual([[8, '264']]);
    expect(server.map(({ id }) => id)).toEqual(['280', '281', '288', '285', '286', '287']);
    expect(server.every(({ traceId }) => traceId === client[0]!.wire)).toBe(true);
  });

  it('of a flush and of zeroes name the command', async () => {
    const { disk, client, server } = await start();
    await disk.flush({ traceId: 9 });
    await disk.writeZeroes(512, 1024, { traceId: 10 });
    expect(client.map(({ traceId, id, detail }) => [traceId, id, detail.replace(/#\d+/, '#')])).toEqual([
      [9, '264', 'NBD cookie #: flush'],
      [10, '264', 'NBD cookie #: write zeroes sectors 1..2'],
    ]);
    expect(server.filter(({ id }) => id === '288').map(({ traceId, detail }) => [traceId, detail])).toEqual([
      [client[0]!.wire, 'flush'],
      [client[1]!.wire, 'write zeroes sectors 1..2'],
    ]);
  });

  it('end with the failure if the device fails', async () => {
    const { disk, server } = await start(new FaultFilter(new MemoryDevice(1 << 20), [{ on: ['read'], action: 'io' }]));
    await expect(disk.read(0, buffersOf(new Uint8Array(512)))).rejects.toThrow();
    expect(server.map(({ id }) => id)).toEqual(['280', '281', '288', '282', '28x']);
  });

  it('are reported again under another cookie after the connection was lost', async () => {
    const { disk, client, server, streams } = await start();
    const done = disk.read(0, buffersOf(new Uint8Array(512)), { traceId: 11 });
    streams[0]!.destroy();
    await done;
    const wires = client.filter(({ traceId }) => traceId === 11).map(({ wire }) => wire);
    expect(new Set(wires).size).toBe(2);
    expect(server.filter(({ traceId }) => traceId === wires[1]).map(({ id }) => id)).toContain('284');
  });

  it('have different cookies for another client of the server', async () => {
    const { disk, client, connect } = await start();
    const steps = new Steps();
    const others: Step[] = [];
    steps.add({ step: (step) => others.push(step) });
    const other = await connect(steps);
    for (const one of [disk, other]) await one.read(0, buffersOf(new Uint8Array(512)));
    expect(others).toHaveLength(1);
    expect(others[0]!.wire).not.toBe(client[0]!.wire);
  });
});

async function start(device: BlockDevice = new MemoryDevice(1 << 20)) {
  const recorder = (): { steps: Steps; told: Step[] } => {
    const [steps, told]: [Steps, Step[]] = [new Steps(), []];
    steps.add({ step: (step) => told.push(step) });
    return { steps, told };
  };
  const [client, server] = [recorder(), recorder()];
  const exports = new Exports('boot');
  exports.add({ name: 'disk', device, readOnly: false, description: '' });
  const serving = new Server(exports, silent);
  serving.steps = server.steps;
  open.push(() => serving.drain());
  const streams: MemoryStream[] = [];
  const dialer = memoryDialer((stream) => {
    streams.push(stream);
    serving.accept(stream);
  });
  const connect = async (steps: Steps) => {
    const disk = await connectNbd(dialer, { exportName: 'disk', steps });
    open.push(() => disk.close());
    return disk;
  };
  const disk = await connect(client.steps);
  // Requests during the opening do not belong to a command.
  client.told.length = server.told.length = 0;
  return { disk, client: client.told, server: server.told, streams, connect };
}
