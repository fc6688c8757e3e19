/**
 * Part of the conformance suite: replaced behind your back. Another disk of the same size takes
 * the name of the one in use. The device neither changes the other disk nor returns a byte of it as
 * the first one's, and data that is kept for the first disk is not applied to the other one.
 *
 * Each kind of source gives a {@link Replaceable}; the rest is the same for all.
 */
import { renameSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { tempFolder } from '../support/temp.js';
import { expectSame, readBytes } from '../../src/conformance/subject.js';

/** Size of the disks, in bytes. */
export const replacedSize = 4 << 20;

/** A device, and the two disks that its name can refer to. */
export interface Replaceable {
  /** Opens the device by its name. */
  open(): Promise<BlockDevice>;
  /**
   * Gives the name to the other disk; called again, to the first one. A server is killed before and
   * restarted after that.
   */
  replace(): Promise<void>;
  readonly disks: TwoDisks;
  /**
   * True if the device keeps data for the disk elsewhere (overlay, cache): what is written does not
   * reach the disk itself.
   */
  readonly keeps?: boolean;
  /** Called when the device is closed. */
  cleanup?(): Promise<void>;
}

/** Two disks of the same size in files, of which the first one is at `path`. */
export interface TwoDisks {
  readonly path: string;
  readonly other: string;
  /** Exchanges the names of the files. */
  swap(): void;
  /** The content of the other disk at the start. */
  readonly otherContent: Buffer;
}

/** Blocks that differ from each other and from those of another letter. */
export const contentOf = (letter: string): Buffer =>
  Buffer.from(Uint8Array.from({ length: replacedSize }, (_, i) => (i % 4096 === 0 ? i >> 12 : letter.charCodeAt(0))));

export function twoDisks(): TwoDisks {
  const folder = tempFolder();
  const [path, other] = [`${folder}/disk.img`, `${folder}/other.img`];
  const otherContent = contentOf('b');
  writeFileSync(path, contentOf('a'));
  writeFileSync(other, otherContent);
  const swap = (): void => {
    renameSync(path, `${folder}/old.img`);
    renameSync(other, path);
    renameSync(`${folder}/old.img`, other);
  };
  return { path, other, swap, otherContent };
}

const write = (device: BlockDevice, offset: number, letter: string): Promise<void> =>
  device.write(offset, buffersOf(new Uint8Array(4096).fill(letter.charCodeAt(0))));

/** The value, or the message of the error. */
const outcome = <T>(request: Promise<T>): Promise<T | string> => request.catch((error: Error) => error.message);

const refusal = /another disk|file was replaced|not known to be the same|samples of its content differ/;

/** Describes and runs this part on what `setUp` gives. */
export function replacedTests(name: string, setUp: () => Promise<Replaceable>): void {
  describe(`replaced behind your back: ${name}`, () => {
    test('an open device uses the first disk or none, and the first one again when it is back', async () => {
      const subject = await setUp();
      const { path, other, otherContent } = subject.disks;
      const device = await subject.open();
      try {
        const first = Buffer.from(await readBytes(device, 65536, 4096));
        await write(device, 8192, 'x');
        await device.flush();
        await subject.replace();
        // The device answers from the first disk, which it has open, or refuses.
        const wrote = await outcome(write(device, 4096, 'y'));
        if (typeof wrote === 'string') expect(wrote).toMatch(refusal);
        const read = await outcome(readBytes(device, 65536, 4096));
        if (typeof read === 'string') expect(read).toMatch(refusal);
        else expectSame(read, first, 'what is read while the other disk has the name');
        expectSame(readFileSync(path), otherContent, 'the other disk, while it has the name');
        await subject.replace();
        for (let tries = 0; typeof (await outcome(write(device, 4096, 'z'))) === 'string'; tries++) {
          expect(tries).toBeLessThan(1000);
          await sleep(20);
        }
        await device.flush();
        expect((await readBytes(device, 4096, 4096))[0]).toBe('z'.charCodeAt(0));
        expect((await readBytes(device, 8192, 4096))[0]).toBe('x'.charCodeAt(0));
        if (!subject.keeps) expect(readFileSync(path).toString('latin1', 4096, 4097)).toBe('z');
        expectSame(readFileSync(other), otherContent, 'the other disk, later');
      } finally {
        await device.close();
        await subject.cleanup?.();
      }
    });

    test('a device that is opened again shows no data of the first disk, or is refused', async () => {
      const subject = await setUp();
      const { path, otherContent } = subject.disks;
      try {
        const first = await subject.open();
        await readBytes(first, 65536, 4096);
        await write(first, 8192, 'x');
        await first.flush();
        await first.close();
        await subject.replace();
        const second = await outcome(subject.open());
        if (typeof second === 'string') {
          expect(second).toMatch(refusal);
        } else {
          for (const at of [8192, 65536]) {
            expectSame(await readBytes(second, at, 4096), otherContent.subarray(at, at + 4096), `bytes from ${at}`);
          }
          await second.close();
        }
        expectSame(readFileSync(path), otherContent, 'the other disk');
        await subject.replace();
        const third = await subject.open();
        const back = (await readBytes(third, 8192, 4096))[0];
        await third.close();
        expect(back).toBe('x'.charCodeAt(0));
      } finally {
        await subject.cleanup?.();
      }
    });
  });
}
