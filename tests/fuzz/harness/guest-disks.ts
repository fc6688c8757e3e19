/**
 * Disks for the controllers of a computer, as `farbus run --drive TEXT` opens them
 * (`openClientDrive`) and puts a virtual I/O client in front: some answer at once, some through
 * files, some over a connection.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silent } from '../../../src/base/log.js';
import type { BlockDevice } from '../../../src/block/device.js';
import { VirtualIoClient } from '../../../src/computer/virtual-io-client.js';
import { parseSource } from '../../../src/app/source-text.js';
import { openClientDrive } from '../../../src/app/sources.js';
import { tempFolder } from '../../support/temp.js';
import { Composed } from './compositions.js';

/** Bytes of each disk. */
export const guestDiskSize = 1 << 20;

/** Which of the disks is on another server. */
const gatewayIndex = 3;

export class GuestDisks {
  readonly #server: Composed;
  readonly #disks: readonly BlockDevice[];
  #next = 0;

  private constructor(server: Composed, disks: readonly BlockDevice[]) {
    this.#server = server;
    this.#disks = disks;
  }

  static async open(): Promise<GuestDisks> {
    const folder = tempFolder();
    const file = (name: string): string => {
      writeFileSync(join(folder, name), new Uint8Array(guestDiskSize));
      return `raw:${join(folder, name)}`;
    };
    const server = await Composed.open({
      name: 'disks',
      keys: (files) => ({ source: `raw:${files.disk('d', new Uint8Array(guestDiskSize))}` }),
    });
    const texts = [
      'memory:1M',
      file('a.img'),
      `${file('b.img')},overlay=${join(folder, 'overlay')}`,
      server.uri('disk'),
      `${server.uri('disk')},cache=${join(folder, 'cache')},readahead`,
      `${server.uri('disk')},overlay=${join(folder, 'overlay2')},rate=1G`,
    ];
    const disks: BlockDevice[] = [];
    for (const text of texts)
      disks.push((await openClientDrive(parseSource(text), { log: silent, reconnectSeconds: 5 })).device!);
    return new GuestDisks(server, disks);
  }

  /** The next of the disks, with whatever earlier inputs have written. */
  next(): VirtualIoClient {
    return new VirtualIoClient(this.#disks[this.#next++ % this.#disks.length]!);
  }

  /** The disk on another server, which never answers at once. */
  get gateway(): VirtualIoClient {
    return new VirtualIoClient(this.#disks[gatewayIndex]!);
  }

  /** Rejects where one does not close. */
  async close(): Promise<void> {
    for (const disk of this.#disks) await disk.close();
    const wrong = await this.#server.close();
    if (wrong !== undefined) throw new Error(wrong);
  }
}
