/**
 * AHCI on a memory disk against the engine's own IDE controller (unmodified v86) on a memory disk:
 * direct reads and writes of 1 MiB and 4 KiB, alternating in one boot, medians. Also the register
 * accesses and interrupts per AHCI command, for several numbers of readers.
 *
 * node bench/guest-ahci.mjs [ROUNDS]
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { chooseGuest, startGuest } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openClientDrive } from '../dist/app/sources.js';
import { ClientComputer } from '../dist/computer/client.js';
import { createV86 } from '../dist/machine/engines/v86/create.js';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 9);
const mib = 256;
const memorySize = 256 << 20;
const log = { log: () => undefined };

const drive = await openClientDrive(parseSource(`memory:${mib}M,bus=ahci`), { log });
const wasmPath = join(dirname(createRequire(import.meta.url).resolve('v86')), 'v86.wasm');
const memoryDisk = new ArrayBuffer(mib << 20);
const computer = await ClientComputer.create({
  drives: [drive],
  createEngine: (trap, onEnd) => createV86({ memorySize, wasmPath, trap, onEnd, memoryDisk }),
  log,
});
const guest = await chooseGuest({ ahci: true, ide: true, log });
await startGuest(computer, guest, undefined, memorySize);

async function run(command) {
  const { status, output } = await computer.console.run(command);
  if (status !== 0) throw new Error(`${command}: ${output}`);
  return output;
}

async function time(command) {
  const started = performance.now();
  await run(command);
  return performance.now() - started;
}

await run('i=0; until test -b /dev/sda && test -b /dev/sdb; do i=$((i+1)); test $i -lt 60 || exit 1; sleep 1; done');
const models = await run('for d in sda sdb; do echo "$d $(cat /sys/block/$d/device/model)"; done');
const named = (model) => `/dev/${new RegExp(`^(\\w+) ${model}`, 'm').exec(models)[1]}`;
const disks = { ahci: named('Farbus ATA Disk'), ide: named('v86 ATA HD') };

const dd = {
  read: (disk, bs, count) => `dd if=${disk} of=/dev/null bs=${bs} count=${count} iflag=direct 2>/dev/null`,
  write: (disk, bs, count) => `dd if=/dev/zero of=${disk} bs=${bs} count=${count} oflag=direct 2>/dev/null`,
};
console.log(machineLine());
for (const [bs, bytes, count] of [
  ['1M', 1 << 20, mib],
  ['4k', 4096, 2000],
]) {
  for (const job of ['read', 'write']) {
    const ms = { ahci: [], ide: [] };
    for (let round = -3; round < rounds; round++) {
      for (const name of round % 2 === 0 ? ['ahci', 'ide'] : ['ide', 'ahci']) {
        const took = await time(dd[job](disks[name], bs, count));
        if (round >= 0) ms[name].push(took);
      }
    }
    const rate = (name) => ((bytes * count) / 2 ** 20 / median(ms[name])) * 1000;
    const each = (name) => (median(ms[name]) / count).toFixed(3);
    console.log(
      `${bs} direct ${job}: AHCI ${rate('ahci').toFixed(1)} MiB/s (${each('ahci')} ms each), IDE ${rate('ide').toFixed(1)} ` +
        `(${each('ide')}); AHCI/IDE ${ratio(ms.ide, ms.ahci)} (wanted: at least 1.0)`,
    );
  }
}

const accesses = async (name, readers, skip = 500) => {
  const before = computer.counts;
  const one = `dd if=${disks.ahci} of=/dev/null bs=4k skip=$((i*${skip})) count=${skip} iflag=direct 2>/dev/null &`;
  await run(`i=0; while test $i -lt ${readers}; do ${one} i=$((i+1)); done; wait`);
  const after = computer.counts;
  const per = (of) => (of(after) - of(before)) / (after.commands - before.commands);
  const reads = per(({ traps }) => traps.reads);
  const writes = per(({ traps }) => traps.writes);
  const interrupts = per((counts) => counts.interrupts);
  console.log(
    `4 KiB reads, ${name}: ${(reads + writes).toFixed(2)} register accesses a command (wanted: at most 6), ` +
      `${reads.toFixed(2)} reads and ${writes.toFixed(2)} writes, ${interrupts.toFixed(2)} interrupts`,
  );
};
for (const readers of [1, 2, 4, 8, 16]) await accesses(`queued, depth ${readers}`, readers);
await run(`echo 1 > /sys/block/${disks.ahci.slice(5)}/device/queue_depth`);
await accesses('not queued', 1);
await computer.stop();
await drive.device.close();
