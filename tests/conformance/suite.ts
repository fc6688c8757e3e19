/**
 * Runs the conformance suite of src/conformance with vitest. One call in a test file runs it on one
 * device or composition:
 *
 *     conformance('file', async () => ({ device: await openFile(path) }));
 *
 * The device is opened once for most of the tests, which is faster for sources on other computers.
 *
 * Not here: disks that are replaced while they are in use (replaced.ts, for each kind of source).
 */
import { readSync } from 'node:fs';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { subjectOf, suiteOf, type ConformanceOptions, type OpenedDevice } from '../../src/conformance/suite.js';

export type Opened = OpenedDevice;

/** Describes and runs the whole suite on what `open` gives. */
export function conformance(name: string, open: () => Promise<Opened>, options: ConformanceOptions = {}): void {
  const readDescriptor = (fd: number, offset: number, into: Uint8Array): void =>
    void readSync(fd, into, 0, into.length, offset);
  const { shared, own } = suiteOf(open, { ...options, readDescriptor });
  describe(`BlockDevice conformance: ${name}`, () => {
    let opened: Opened | undefined;
    beforeAll(async () => {
      opened = await open();
    });
    afterAll(async () => {
      await opened?.device.close();
      await opened?.cleanup?.();
    });
    for (const { name: what, run } of shared) test(what, async () => run(subjectOf(opened!.device, options)));
  });
  describe(`BlockDevice conformance: ${name}: openings of their own`, () => {
    for (const { name: what, run } of own) test(what, run);
  });
}
