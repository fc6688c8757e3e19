/**
 * `farbus serve` is killed at random moments during writes: flushed data is there afterwards, and
 * no block is torn.
 */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { Random } from '../../src/conformance/random.js';
import { missing } from '../support/nbd-peers.js';
import { generationOf, sealed, sealedSize } from '../support/sealed-blocks.js';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';
import { execute } from './farbus.js';

const all = Boolean(process.env['FARBUS_TEST_ALL']);
/** Number of kills for each kind of export. */
const kills = all ? 100 : 4;
const blocks = 256;
const workers = 16;

/** The blocks of one disk over many lifetimes of its server. */
class Load {
  /** For each block: the last generation begun, acknowledged, and flushed. */
  readonly begun = new Array<number>(blocks).fill(0);
  readonly acknowledged = new Array<number>(blocks).fill(0);
  readonly flushed = new Array<number>(blocks).fill(0);
  readonly #random = new Random(11);

  /** Writes and flushes until the server is gone. */
  async run(uri: string, kill: () => void): Promise<void> {
    const disk = await openNbd(uri, { reconnectSeconds: 0 });
    const random = this.#random;
    const worker = async (number: number): Promise<void> => {
      for (;;) {
        if (random.below(10) === 0) {
          const before = [...this.acknowledged];
          await disk.flush();
          for (const [block, generation] of before.entries()) {
            this.flushed[block] = Math.max(this.flushed[block]!, generation);
          }
          continue;
        }
        const block = random.below(blocks / workers) * workers + number;
        const generation = ++this.begun[block]!;
        const fua = random.below(8) === 0;
        await disk.write(block * sealedSize, buffersOf(sealed(block, generation)), { fua });
        this.acknowledged[block] = generation;
        if (fua) this.flushed[block] = generation;
      }
    };
    const running = Promise.allSettled(Array.from({ length: workers }, (_, number) => worker(number)));
    const flushed = (): number => this.flushed.reduce((sum, one) => sum + one, 0);
    // Kill at a random moment, but not before a flush is acknowledged.
    const before = flushed();
    for (let i = 0; flushed() === before && i < 3000; i++) await sleep(1);
    await sleep(random.below(60));
    kill();
    await running;
    await disk.close();
  }

  /** Reads all blocks back and checks them. */
  async verify(uri: string): Promise<void> {
    const disk = await openNbd(uri, { reconnectSeconds: 0 });
    const bytes = new Uint8Array(blocks * sealedSize);
    await disk.read(0, buffersOf(bytes));
    await disk.close();
    for (let block = 0; block < blocks; block++) {
      const found = generationOf(block, bytes.subarray(block * sealedSize, (block + 1) * sealedSize));
      expect(found, `block ${block}`).toBeGreaterThanOrEqual(this.flushed[block]!);
      expect(found, `block ${block}`).toBeLessThanOrEqual(this.begun[block]!);
      this.begun[block] = this.acknowledged[block] = this.flushed[block] = found;
    }
  }
}

async function killed(folder: string, source: string): Promise<void> {
  const serving = new ServeProcess(join(folder, 'nbd.sock'), [source, '--name', 'disk']);
  const load = new Load();
  for (let life = 0; life < kills; life++) {
    await serving.start();
    try {
      await load.verify(serving.uri('disk'));
      await load.run(serving.uri('disk'), () => serving.signal('SIGKILL'));
    } finally {
      await serving.stop('SIGKILL');
    }
  }
  await serving.start();
  await load.verify(serving.uri('disk'));
  await serving.stop();
  expect(Math.max(...load.flushed)).toBeGreaterThan(0);
}

function image(folder: string): string {
  const path = join(folder, 'disk.img');
  writeFileSync(path, '');
  truncateSync(path, blocks * sealedSize);
  return path;
}

describe(
  `a server that is killed ${kills} times under load loses nothing that was flushed`,
  { timeout: 1_200_000 },
  () => {
    it('of a file', async () => {
      const folder = tempFolder();
      await killed(folder, image(folder));
    });

    it('of an overlay with a cache below it', async () => {
      const folder = tempFolder();
      await killed(folder, `${image(folder)},overlay=${join(folder, 'overlay')},cache=${join(folder, 'cache')}`);
    });

    it.skipIf(missing('qemu-nbd'))('of a qcow2 image', async () => {
      const folder = tempFolder();
      const path = join(folder, 'disk.qcow2');
      await execute('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(blocks * sealedSize)]);
      await killed(folder, path);
      expect(await execute('qemu-img', ['check', '-q', path])).toMatchObject({ code: 0 });
    });
  },
);
