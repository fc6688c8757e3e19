/**
 * Losses of acknowledged writes: each user of a shared device is told of each loss once, regardless
 * of whose flush met it first.
 */
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { BlockError, type BlockErrorKind } from '../../src/block/errors.js';
import { LeaseArbiter } from '../../src/block/filters/lease.js';
import { RateFilter, RateLimit } from '../../src/block/filters/rate.js';
import { LossWatch } from '../../src/block/losses.js';
import { MemoryDevice } from '../../src/storage/memory.js';

/** A disk whose next flush fails with the error in `fails`; later flushes succeed. */
class Failing extends MemoryDevice {
  fails: BlockErrorKind | undefined;

  protected override async doFlush(): Promise<void> {
    const kind = this.fails;
    this.fails = undefined;
    if (kind) throw new BlockError(kind, 'the server was restarted');
  }
}

const outcome = (flush: Promise<void>): Promise<string> =>
  flush.then(
    () => 'durable',
    (error: Error) => error.message,
  );
const lost = 'writes before this flush may be lost: the server was restarted';

describe('a loss', () => {
  it('is reported to every user once, also behind filters', async () => {
    const disk = new Failing(4096);
    const [a, b] = [new LossWatch(disk.losses), new LossWatch(disk.losses)];
    const limited = new RateFilter(disk, new RateLimit(1 << 20));
    const flush = (watch: LossWatch): Promise<string> => outcome(watch.flush(() => limited.flush()));
    disk.fails = 'io';
    expect([await flush(a), await flush(b)]).toEqual(['the server was restarted', lost]);
    expect([await flush(a), await flush(b)]).toEqual(['durable', 'durable']);
    expect(await flush(new LossWatch(disk.losses))).toBe('durable');
  });

  it("is reported to a user who reconnects, since that user's last report", async () => {
    const disk = new Failing(4096);
    const { seen } = new LossWatch(disk.losses);
    disk.fails = 'io';
    await outcome(disk.flush());
    expect(await outcome(new LossWatch(disk.losses, seen).flush(() => disk.flush()))).toBe(lost);
  });

  it('is not reported if a later flush can keep its promise', async () => {
    for (const kind of ['aborted', 'unreachable', 'no-medium', 'unsupported'] as const) {
      const disk = new Failing(4096);
      const watch = new LossWatch(disk.losses);
      disk.fails = kind;
      await outcome(disk.flush());
      expect(await outcome(watch.flush(() => disk.flush()))).toBe('durable');
    }
  });

  it('that a write with FUA meets is reported to the other users', async () => {
    const disk = new Failing(4096, { can: { ...new MemoryDevice(512).info.can, fua: false } });
    const watch = new LossWatch(disk.losses);
    disk.fails = 'io';
    const write = disk.write(0, buffersOf(new Uint8Array(512)), { fua: true });
    await expect(write).rejects.toThrow('the server was restarted');
    expect(await outcome(watch.flush(() => disk.flush()))).toBe(lost);
  });

  it('that the flush of a moving lease meets is reported to the side that wrote', async () => {
    const disk = new Failing(4096);
    const arbiter = new LeaseArbiter(disk, ['client', 'local']);
    const client = arbiter.side('client');
    await client.write(0, buffersOf(new Uint8Array(512)));
    disk.fails = 'io';
    await expect(arbiter.move('local')).rejects.toThrow(/cannot flush/);
    await arbiter.move('local');
    expect(await outcome(client.flush())).toBe(lost);
    expect(await outcome(client.flush())).toBe('durable');
  });
});
