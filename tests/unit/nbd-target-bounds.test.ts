/**
 * Limits on the memory that clients can make an NBD server hold: counted in slabs, per connection
 * and in total, for any requests and unread replies.
 */
import { describe, expect, it } from 'vitest';
import type { Logger } from '../../src/base/log.js';
import { Server } from '../../src/export/nbd/server.js';
import { NbdCommand } from '../../src/protocol/nbd/spec.js';
import { defaultLimits } from '../../src/protocol/nbd/target/limits.js';
import { SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { exportsOf, infoData, join, optionBytes, Peer, requestBytes, TestStream } from './nbd-target-peer.js';
import { nextIteration } from '../support/event-loop.js';
import { u32 } from '../support/numbers.js';

const KiB = 1 << 10;
const MiB = 1 << 20;
/** Memory of partly filled shared slabs, one of each kind. */
const margin = 512 * KiB;

/** A client that has entered transmission and reads nothing from then on. */
async function deafPeer(pool: SlabPool, disk = new MemoryDevice(64 * MiB)): Promise<Peer> {
  const peer = new Peer(exportsOf({ disk }), {}, pool);
  await peer.enter('disk', { structured: false });
  peer.stream.blocked = true;
  return peer;
}

/** Sends requests as long as the target reads. Resolves with their number. */
async function flood(peer: Peer, request: (index: number) => Uint8Array, most = 3000): Promise<number> {
  let sent = 0;
  for (; sent < most && !peer.stream.paused && !peer.closed; sent++) {
    peer.stream.events!.data(request(sent));
    if (sent % 64 === 0) await nextIteration();
  }
  return sent;
}

const read = (length: number) => requestBytes({ command: NbdCommand.read, offset: 0, length });
const write = (length: number) => requestBytes({ command: NbdCommand.write, offset: 0, data: new Uint8Array(length) });

describe('a client that never reads its replies holds at most 16 MiB', () => {
  it.each([512, 4096, 60 * KiB, 64 * KiB, 64 * KiB + 512, 100 * KiB, 600 * KiB, MiB, MiB + 512, 3 * MiB])(
    'with reads of %i bytes',
    async (length) => {
      const pool = new SlabPool();
      const peer = await deafPeer(pool);
      const sent = await flood(peer, () => read(length));
      expect(pool.used).toBeLessThanOrEqual(defaultLimits.maxBytes + margin);
      // Nor does the client get less than its limit permits: slabs are at least half full.
      expect(sent).toBeGreaterThanOrEqual(Math.min(defaultLimits.maxRequests, Math.floor((8 * MiB) / length)));
      peer.target.destroy();
      await peer.target.finished;
      expect(pool.used).toBe(0);
    },
  );

  it('with long writes and short reads in one slab', async () => {
    const pool = new SlabPool();
    const peer = await deafPeer(pool);
    await flood(peer, (index) => (index % 2 === 0 ? write(60 * KiB) : read(1536)));
    expect(pool.used).toBeLessThanOrEqual(defaultLimits.maxBytes + margin);
    peer.target.destroy();
    await peer.target.finished;
    expect(pool.used).toBe(0);
  });

  it('almost nothing if replies have no data', async () => {
    const pool = new SlabPool();
    const peer = await deafPeer(pool);
    await flood(peer, () => write(60 * KiB));
    expect(pool.used).toBeLessThanOrEqual(margin);
    peer.target.destroy();
  });

  it('except for one larger request, alone', async () => {
    const pool = new SlabPool();
    const peer = await deafPeer(pool);
    await flood(peer, () => read(32 * MiB), 10);
    expect(pool.used).toBeLessThanOrEqual(32 * MiB + margin);
    peer.target.destroy();
  });
});

describe('many clients that never read hold at most the common limit, and 1 MiB each', () => {
  it('other clients continue, and get more memory when there is some', async () => {
    const pool = new SlabPool(0, 8 * MiB);
    const deaf = await Promise.all(Array.from({ length: 8 }, () => deafPeer(pool)));
    for (const one of deaf) await flood(one, () => read(MiB), 100);
    const bound = 8 * MiB + deaf.length * (MiB + 4096);
    expect(pool.used).toBeGreaterThanOrEqual(8 * MiB);
    expect(pool.used).toBeLessThanOrEqual(bound);

    const disk = new MemoryDevice(64 * MiB);
    const other = new Peer(exportsOf({ disk }), {}, pool);
    await other.enter('disk', { structured: false });
    for (let i = 0; i < 4; i++) expect((await other.ask({ command: 0, length: MiB })).error).toBe(0);
    expect(pool.used).toBeLessThanOrEqual(bound);

    let answered = false;
    const long = other.ask({ command: 0, length: 6 * MiB }).then(({ error }) => {
      answered = true;
      return error;
    });
    for (let i = 0; i < 50; i++) await nextIteration();
    expect({ answered, short: pool.short }).toEqual({ answered: false, short: true });
    for (const one of deaf) one.target.destroy();
    expect(await long).toBe(0);
    expect(pool.short).toBe(false);
    other.target.destroy();
    await other.target.finished;
    expect(pool.used).toBe(0);
  });

  it('a client that disconnects while it waits is forgotten', async () => {
    const pool = new SlabPool(0, 4 * MiB);
    const deaf = await deafPeer(pool);
    await flood(deaf, () => read(MiB), 100);
    const gone = await deafPeer(pool);
    gone.stream.events!.data(read(2 * MiB));
    expect(pool.short).toBe(true);
    gone.target.destroy();
    deaf.target.destroy();
    await Promise.all([gone.target.finished, deaf.target.finished]);
    expect({ short: pool.short, used: pool.used }).toEqual({ short: false, used: 0 });
  });

  it('the server disconnects clients that take nothing while others wait', async () => {
    const said: string[] = [];
    const log: Logger = { log: (_level, message) => void said.push(message) };
    const exports = exportsOf({ disk: new MemoryDevice(64 * MiB) });
    const server = new Server(exports, log, { maxMemory: 4 * MiB, stallMs: 60 });
    const enter = (): TestStream => {
      const stream = new TestStream();
      server.accept(stream);
      stream.events!.data(join([u32(3), optionBytes(7, infoData('disk', []))]));
      return stream;
    };
    const deaf = enter();
    deaf.blocked = true;
    for (let i = 0; i < 100 && !deaf.paused; i++) deaf.events!.data(read(MiB));
    const other = enter();
    const before = other.received.length;
    other.events!.data(read(3 * MiB));
    while (other.received.length < before + 16 + 3 * MiB) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(deaf.destroyed).toBe(true);
    expect(said.join('\n')).toContain('it does not read its replies, and memory is short');
    // If memory is not short, no client is disconnected.
    const patient = enter();
    patient.blocked = true;
    patient.events!.data(read(MiB));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(patient.destroyed).toBe(false);
    await server.drain(0);
  });
});
