/**
 * A guest on a disk over ssh, with and without 20 ms of delay for each request: mount, read 20 MB
 * of files, unmount, each time from the same snapshot; alternating, medians. The delay filter takes
 * the place of the network: below read-ahead and merging.
 *
 * node bench/guest-delay.mjs [ROUNDS]
 * Needs: /usr/sbin/sshd, ssh, mkfs.ext4.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DelayFilter } from '../dist/block/filters/delay.js';
import { MergeFilter } from '../dist/block/filters/merge.js';
import { ReadAheadFilter } from '../dist/block/filters/readahead.js';
import { chooseGuest, createComputer, startGuest } from '../dist/app/computer/start.js';
import { openSsh } from '../dist/protocol/ssh/open.node.js';
import { machineLine, median, ratio } from './report.mjs';
import { startSshd } from './sshd.mjs';

setMaxListeners(0); // one AbortSignal stands for many requests
const rounds = process.argv[2] ?? '7';
const memory = 256 << 20;
const log = { log: () => undefined };
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const image = join(folder, 'disk.img');
const uri = `ssh://test${image}`;
const sshd = await startSshd(folder);

const files = join(folder, 'files');
mkdirSync(files);
for (let i = 0; i < 20; i++) writeFileSync(join(files, `file${i}`), randomFillSync(new Uint8Array(1_000_000)));
writeFileSync(image, '');
truncateSync(image, 64 << 20);
execFileSync('/usr/sbin/mkfs.ext4', ['-q', '-F', '-d', files, image]);

const guest = await chooseGuest({ log });
const snapshot = join(folder, 'snapshot');

/** ms from the start of the computer until the files are read. */
async function once(delay) {
  const far = await openSsh(uri, { log });
  const slow = delay > 0 ? new DelayFilter(far, { read: delay, write: delay, flush: delay }) : far;
  const drive = new ReadAheadFilter(new MergeFilter(slow));
  const computer = await createComputer([drive], memory, { log });
  const started = performance.now();
  try {
    await startGuest(computer, guest, snapshot, memory);
    const { status, output } = await computer.console.run(
      'mkdir -p /mnt/d && mount -t ext4 /dev/nvme0n1 /mnt/d && cat /mnt/d/file* >/dev/null && umount /mnt/d',
      600_000,
    );
    if (status !== 0) throw new Error(output);
    return performance.now() - started;
  } finally {
    await computer.stop();
    await drive.close();
  }
}

try {
  console.log(machineLine());
  await once(0); // boots, and saves the snapshot
  const ms = { direct: [], delayed: [] };
  for (let round = 0; round < Number(rounds); round++) {
    for (const name of round % 2 ? ['direct', 'delayed'] : ['delayed', 'direct']) {
      ms[name].push(await once(name === 'delayed' ? 20 : 0));
    }
  }
  console.log(
    `mount, 20 MB of files, unmount over ssh: ${median(ms.direct).toFixed(0)} ms, with 20 ms delay ` +
      `${median(ms.delayed).toFixed(0)} ms; ratio ${ratio(ms.delayed, ms.direct)} (wanted: at most 1.5)`,
  );
} finally {
  sshd.child.kill();
  rmSync(folder, { recursive: true, force: true });
}
