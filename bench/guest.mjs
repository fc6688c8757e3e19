/**
 * Throughput of a guest on a far disk: direct reads and writes of 1 MiB on `farbus serve` in
 * another process over loopback, against the same controller on a memory disk; alternating in one
 * boot, medians. Also register accesses and interrupts per command, and the server's memory.
 *
 * node bench/guest.mjs [ROUNDS [FOLDER]]     FOLDER: for the file; default /dev/shm, else /tmp
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { randomFillSync } from 'node:crypto';
import { chooseGuest, createComputer, startGuest } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { median, ratio, machineLine } from './report.mjs';

const rounds = Number(process.argv[2] ?? 9);
const mib = 384;
const log = { log: () => undefined };
// The file is in memory by default: the benchmark compares the way to the disk, not write-back.
const place = process.argv[3] ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
const folder = mkdtempSync(join(place, 'farbus-bench-'));
const image = join(folder, 'disk.img');
writeFileSync(image, randomFillSync(new Uint8Array(mib << 20)));
truncateSync(image, mib << 20);

const server = spawn(process.execPath, ['bin/farbus.js', 'serve', image, '--listen', 'nbd://127.0.0.1:0', '--json'], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  const line = await new Promise((resolve) => createInterface({ input: server.stdout }).once('line', resolve));
  const address = JSON.parse(line).listening[0].replace(/\/$/, '');
  const far = await openSource(parseSource(`${address}/disk.img`), { log });
  const near = await openSource(parseSource(`memory:${mib}M`), { log });
  const guest = await chooseGuest({ log });
  const computer = await createComputer([far, near], 256 << 20, { log });
  await startGuest(computer, guest, undefined, 256 << 20);
  const disks = { far: '/dev/nvme0n1', memory: '/dev/nvme1n1' };

  const time = async (command) => {
    const started = performance.now();
    const { status, output } = await computer.console.run(command);
    if (status !== 0) throw new Error(`${command}: ${output}`);
    return performance.now() - started;
  };
  const dd = {
    read: (disk) => `dd if=${disk} of=/dev/null bs=1M count=${mib} iflag=direct 2>/dev/null`,
    write: (disk) => `dd if=/dev/zero of=${disk} bs=1M count=${mib} oflag=direct 2>/dev/null`,
  };
  console.log(machineLine());
  for (const job of ['read', 'write']) {
    const ms = { far: [], memory: [] };
    for (let round = -4; round < rounds; round++) {
      for (const name of round % 2 === 0 ? ['far', 'memory'] : ['memory', 'far']) {
        const took = await time(dd[job](disks[name]));
        if (round >= 0) ms[name].push(took);
      }
    }
    const rate = (name) => (mib / median(ms[name])) * 1000;
    console.log(
      `1 MiB direct ${job}: far ${rate('far').toFixed(0)} MiB/s, memory ${rate('memory').toFixed(0)} MiB/s; ` +
        `far/memory ${ratio(ms.memory, ms.far)} (wanted: at least 0.70)`,
    );
  }
  for (const [name, count] of [
    ['depth 1', 1],
    ['depth 4', 4],
    ['depth 8', 8],
  ]) {
    const before = computer.counts;
    const one = (i) => `dd if=${disks.far} of=/dev/null bs=4k skip=${i * 2000} count=500 iflag=direct 2>/dev/null &`;
    await time(`${Array.from({ length: count }, (_, i) => one(i)).join(' ')} wait`);
    const after = computer.counts;
    const commands = after.commands - before.commands;
    const per = (a, b) => ((a - b) / commands).toFixed(2);
    console.log(
      `4 KiB reads, ${name}: register writes a command ${per(after.traps.writes, before.traps.writes)} (wanted: at most 2), ` +
        `reads ${per(after.traps.reads, before.traps.reads)}, interrupts ${per(after.interrupts, before.interrupts)}` +
        (count >= 4 ? ' (wanted: below 1)' : ''),
    );
  }
  const rss = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))[1];
  console.log(`farbus serve: peak resident memory ${(rss / 1024).toFixed(0)} MiB (wanted: below 120 MB)`);
  console.log('medians of legs (ms):', JSON.stringify(computer.counts.legs));
  await computer.stop();
  await far.close();
} finally {
  server.kill('SIGTERM');
  rmSync(folder, { recursive: true, force: true });
}
