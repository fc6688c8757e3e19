/**
 * Servers that are killed, stopped and restarted under load: no error and no wrong byte within the
 * reconnect time.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import type { NbdInitiator } from '../../src/protocol/nbd/initiator/initiator.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectKind, readBytes } from '../../src/conformance/subject.js';
import {
  farbusServe,
  freePort,
  freeSocket,
  missing,
  nbdkit,
  qemuNbd,
  type NbdPeer,
  type Place,
} from '../support/nbd-peers.js';
import { tempImage } from '../support/temp.js';

const size = 16 << 20;
const unit = 4096;

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/**
 * Writers and readers, each on its own blocks, until stopped. The content of each block is always
 * known: a read that returns anything else, or any error, fails the test.
 */
class Load {
  readonly model = new Uint8Array(size);
  readonly #device: NbdInitiator;
  readonly #workers: Promise<void>[];
  #over = false;
  rounds = 0;

  constructor(device: NbdInitiator, workers = 8) {
    this.#device = device;
    this.#workers = Array.from({ length: workers }, (_, index) => this.#work(index, workers));
    for (const worker of this.#workers) worker.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#workers);
  }

  /** Waits until `rounds` more rounds are done. Rejects if one failed. */
  async go(rounds: number): Promise<void> {
    const until = this.rounds + rounds;
    const failure = Promise.all(this.#workers);
    while (this.rounds < until) await Promise.race([sleep(10), failure]);
  }

  async #work(index: number, workers: number): Promise<void> {
    const random = new Random(index + 1);
    const share = size / unit / workers;
    while (!this.#over) {
      const count = 1 + random.below(random.chance(0.1) ? 64 : 8);
      const at = (index * share + random.below(share - count)) * unit;
      const part = this.model.subarray(at, at + count * unit);
      const choice = random.below(10);
      if (choice < 4) {
        const bytes = random.bytes(part.length);
        await this.#device.write(at, buffersOf(bytes), { fua: random.chance(0.1) });
        part.set(bytes);
      } else if (choice < 5) {
        await this.#device.writeZeroes(at, part.length);
        part.fill(0);
      } else if (choice < 6) {
        await this.#device.flush();
      } else {
        await expectBytes(this.#device, at, part);
      }
      this.rounds++;
    }
  }
}

const servers: [string, string, (place: Place, path: string) => Promise<NbdPeer>][] = [
  ['nbdkit', 'nbdkit', (place, path) => nbdkit(place, ['file', path])],
  ['qemu-nbd', 'qemu-nbd', (place, path) => qemuNbd(place, path, ['--cache=writeback'])],
  ['farbus serve', process.execPath, (place, path) => farbusServe(place, 'disk', [`disk=${path}`])],
];

describe.each(servers)('%s', (_name, program, start) => {
  const ways = ['TCP', 'unix', 'four connections'];
  test.skipIf(missing(program)).each(ways)('killed again and again under load, %s', async (transport) => {
    const connections = transport === 'four connections' ? 4 : 1;
    const path = tempImage(size);
    const server = await start(transport === 'TCP' ? await freePort() : freeSocket(), path);
    const states: string[] = [];
    const device = await openNbd(server.uri, { connections, onState: (state) => states.push(state) });
    const load = new Load(device);
    for (let round = 0; round < 4; round++) {
      await sleep(150);
      await server.kill('SIGKILL');
      await sleep(round * 100);
      await server.start();
      await load.go(50);
    }
    await load.stop();
    await device.flush();
    const back = await readBytes(device, 0, size);
    expect(hash(back)).toBe(hash(load.model));
    await device.close();
    await server.kill('SIGTERM');
    expect(hash(readFileSync(path))).toBe(hash(load.model));
    expect(states.filter((state) => state === 'reconnecting').length).toBeGreaterThanOrEqual(4);
    expect(states).not.toContain('lost');
  });
});

// nbdkit 1.32 itself can fail an assertion when a connection is reset under it; our server fences
// the older connection as well, so that what it had still to do when it was stopped cannot undo
// what came later.
describe('farbus serve', () => {
  test.each([1, 4])('stopped and set going again, %i connections: given up after the silence', async (connections) => {
    const path = tempImage(size);
    const server = await farbusServe(await freePort(), 'disk', [`disk=${path}`]);
    const device = await openNbd(server.uri, { connections, stallSeconds: 0.4, connectSeconds: 0.5 });
    const load = new Load(device);
    await sleep(100);
    server.signal('SIGSTOP');
    await sleep(1500);
    server.signal('SIGCONT');
    await load.go(100);
    await load.stop();
    expect(hash(await readBytes(device, 0, size))).toBe(hash(load.model));
    await device.close();
    await server.kill();
  });
});

describe.skipIf(missing('nbdkit'))('nbdkit', () => {
  test('gone for longer than the reconnect time: unreachable, and available again when the server is', async () => {
    const server = await nbdkit(await freePort(), ['memory', `${size}`]);
    const lines: string[] = [];
    const log = { log: (_level: string, message: string) => lines.push(message) };
    const device = await openNbd(server.uri, { reconnectSeconds: 0.5, log });
    await server.kill();
    const requests = Array.from({ length: 20 }, (_, index) => readBytes(device, index * unit, unit));
    for (const request of requests) await expectKind('unreachable', request);
    await expectKind('unreachable', readBytes(device, 0, unit));
    expect(lines.some((line) => line.includes('not reachable for 0.5 seconds'))).toBe(true);
    await server.start();
    for (;;) {
      const back = await readBytes(device, 0, unit).then(
        () => true,
        () => false,
      );
      if (back) break;
      await sleep(20);
    }
    await device.close();
    await server.kill();
  });

  test('a smaller export in its place is not used', async () => {
    const place = await freePort();
    const server = await nbdkit(place, ['memory', `${size}`]);
    const device = await openNbd(server.uri);
    await server.kill();
    const other = await nbdkit(place, ['memory', `${size / 2}`]);
    await expect(readBytes(device, 0, unit)).rejects.toThrow(/the export changed/);
    await device.close();
    await other.kill();
  });
});
