/**
 * Influence of a slow disk on a fast one on the same server: the latency of random 4 KiB reads at
 * depth 1 on a file in the page cache, alone, and while 16 readers wait for another export. That
 * export is a file with 200 requests/s: nbdkit with a delay, mounted by FUSE, so that reading it
 * really blocks a thread.
 *
 * node bench/nbd-isolation.mjs [ROUNDS]
 * Needs: nbdkit, nbdfuse, fio, /dev/fuse.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { machineLine, median } from './report.mjs';

const rounds = Number(process.argv[2] ?? 5);
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const at = (name) => join(folder, name);
const uri = (name) => `nbd+unix:///${name}?socket=${at('sock')}`;

async function until(what, done) {
  for (let i = 0; !done(); i++) {
    if (i > 200) throw new Error(`${what} does not start`);
    await sleep(50);
  }
}

function fio(name, depth, seconds) {
  const args = ['--name=job', '--ioengine=nbd', `--uri=${uri(name)}`, '--rw=randread', '--bs=4k', `--iodepth=${depth}`];
  return [...args, '--size=64M', '--time_based', `--runtime=${seconds}`, '--output-format=json'];
}

/** Median latency at depth 1, in µs. */
function latency() {
  const out = execFileSync('fio', fio('hot', 1, 1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return JSON.parse(out.slice(out.indexOf('{'))).jobs[0].read.clat_ns.percentile['50.000000'] / 1000;
}

const children = [];
let mounted = false;
try {
  writeFileSync(at('hot'), Buffer.alloc(64 << 20, 1));
  mkdirSync(at('mount'));
  const slow = [
    'nbdkit',
    '-s',
    '--exit-with-parent',
    '--threads=1',
    '--filter=delay',
    'memory',
    '64M',
    'delay-read=5ms',
  ];
  children.push(spawn('nbdfuse', [at('mount/cold'), '--command', ...slow], { stdio: ['ignore', 'ignore', 'inherit'] }));
  mounted = true;
  await until('nbdfuse', () => existsSync(at('mount/cold')) && statSync(at('mount/cold')).size > 0);
  const farbus = new URL('../bin/farbus.js', import.meta.url).pathname;
  const exported = [`hot=${at('hot')}`, `cold=${at('mount/cold')}`, '--read-only'];
  const listen = ['--listen', `nbd+unix:///?socket=${at('sock')}`];
  const server = spawn(process.execPath, [farbus, 'serve', ...exported, ...listen], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  children.push(server);
  await until('farbus serve', () => existsSync(at('sock')));
  const idle = [];
  const busy = [];
  let reads = 0;
  latency();
  for (let i = 0; i < rounds; i++) {
    idle.push(latency());
    const load = spawn('fio', fio('cold', 16, 3), { stdio: ['ignore', 'pipe', 'ignore'] });
    let out = '';
    load.stdout.on('data', (text) => (out += text));
    await sleep(1000);
    busy.push(latency());
    await once(load, 'close');
    reads += JSON.parse(out.slice(out.indexOf('{'))).jobs[0].read.total_ios;
  }
  console.log(machineLine());
  console.log(
    `hot export, 4 KiB at depth 1: ${median(idle).toFixed(1)} µs alone, ${median(busy).toFixed(1)} µs while the slow one is read` +
      ` (${(reads / rounds / 3).toFixed(0)} a second there): ${(median(busy) / median(idle)).toFixed(2)} times (wanted: at most 2)`,
  );
} finally {
  for (const child of children.reverse()) {
    if (child.spawnfile === 'nbdfuse' && mounted) {
      try {
        execFileSync('fusermount3', ['-u', at('mount')], { stdio: 'ignore' });
      } catch {
        execFileSync('umount', [at('mount')], { stdio: 'ignore' });
      }
    }
    const gone = child.exitCode === null && once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  }
  rmSync(folder, { recursive: true, force: true });
}
