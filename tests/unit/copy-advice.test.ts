/** The advice of a copy that fails: to resume it only if its journal could be kept. */
import { expect, it } from 'vitest';
import { CopyJob } from '../../src/app/copy/job.js';
import { BlockError } from '../../src/block/errors.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { tempFolder } from '../support/temp.js';

class FullDisk extends MemoryDevice {
  override write(): Promise<void> {
    return Promise.reject(new BlockError('no-space', 'it is full'));
  }
}

it.each([
  ['kept', tempFolder(), 0, ', --resume continues from there'],
  ['not kept', '/proc/none', 1, ''],
])('a journal that could be %s', async (_, state, warnings, advice) => {
  const source = new MemoryDevice(1 << 20);
  await source.write(0, new Uint8Array(4096).fill(1));
  const lines: string[] = [];
  const job = new CopyJob({
    from: 'from.img',
    to: 'nbd://server/to',
    source,
    target: new FullDisk(1 << 20),
    fresh: false,
    jobs: 1,
    verify: false,
    resume: false,
    assumeSame: false,
    names: { resume: '--resume', assumeSame: '--assume-same' },
    env: { XDG_STATE_HOME: state },
    log: { log: (_level, line) => lines.push(line) },
    signal: new AbortController().signal,
  });
  await expect(job.run(() => undefined)).rejects.toThrow(
    new RegExp(
      `^cannot write nbd://server/to at byte 0: it is full; 0 B of 1\\.0 MiB are copied and durable${advice}$`,
    ),
  );
  expect(lines.filter((line) => line.startsWith('cannot keep a journal'))).toHaveLength(warnings);
});
