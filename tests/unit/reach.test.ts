/** Far devices must answer before a snapshot is taken or resumed. */
import { describe, expect, it } from 'vitest';
import { checkReach } from '../../src/computer/reach.js';
import { SnapshotError } from '../../src/machine/snapshot.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { FailingDisk, GatedDisk } from '../support/gated-disk.js';

describe('reaching the far devices', () => {
  it('succeeds if they answer, and with empty drives', async () => {
    await checkReach([new MemoryDevice(1 << 20), undefined, new MemoryDevice(0)]);
  });

  it('fails if one fails, and says which', async () => {
    const reach = checkReach([new MemoryDevice(1 << 20), new FailingDisk(1 << 20, 'io')]);
    await expect(reach).rejects.toThrow(SnapshotError);
    await expect(reach).rejects.toThrow(/drive 1 does not answer: as asked/);
  });

  it.each([true, false])('fails if one does not answer (gives up: %s)', async (honoursAbort) => {
    const disk = new GatedDisk(1 << 20);
    disk.honoursAbort = honoursAbort;
    await expect(checkReach([disk], 50)).rejects.toThrow(/drive 0 does not answer/);
    expect(disk.aborted).toBe(1);
    disk.open();
  });
});
