/**
 * `farbus serve rbd:` against `qemu-nbd rbd:`, each with an image of its own in one Ceph on
 * loopback: fio's nbd engine over unix sockets, alternating. Prints medians of the rounds' ratios,
 * and the processor time that each server used.
 *
 * node bench/rbd.mjs [--rounds N] [--seconds S] [--only TEXT]
 *
 * Needs: ceph-mon, ceph-osd, ceph-mgr, rbd, fio, and qemu-nbd with its driver for Ceph (Debian's
 * packages qemu-utils and qemu-block-extra).
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startCeph } from './ceph.mjs';
import { machineLine, median, ratio } from './report.mjs';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '2' },
    only: { type: 'string', default: '' },
  },
});
const mib = 256;
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const farbus = new URL('../bin/farbus.js', import.meta.url).pathname;

const jobs = [
  { name: '4k random read, depth 64', rw: 'randread', bs: '4k', depth: 64 },
  { name: '4k random read, depth 1', rw: 'randread', bs: '4k', depth: 1 },
  { name: '4k random write, depth 64', rw: 'randwrite', bs: '4k', depth: 64 },
  { name: '4k random write, depth 1', rw: 'randwrite', bs: '4k', depth: 1 },
  { name: '1M sequential read, depth 8', rw: 'read', bs: '1M', depth: 8 },
  { name: '1M sequential write, depth 8', rw: 'write', bs: '1M', depth: 8 },
].filter(({ name }) => name.includes(flags.only));

/** Processor time of a process, in s (proc(5): utime and stime). */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** @returns operations a second, and their number */
function fio(uri, { rw, bs, depth }, more) {
  const args = ['--name=job', '--ioengine=nbd', `--uri=${uri}`, `--rw=${rw}`, `--bs=${bs}`, `--iodepth=${depth}`];
  const out = execFileSync('fio', [...args, `--size=${mib}M`, '--output-format=json', ...more], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const job = JSON.parse(out.slice(out.indexOf('{'))).jobs[0];
  const side = rw.endsWith('write') ? job.write : job.read;
  return { rate: side.iops, count: side.total_ios };
}

const servers = [];
const ceph = await startCeph(folder);
try {
  const commands = {
    farbus: (socket) => [
      process.execPath,
      [farbus, 'serve', `rbd:rbd/farbus?conf=${ceph.conf}`, '--listen', `nbd+unix:///?socket=${socket}`],
    ],
    qemu: (socket) => [
      'qemu-nbd',
      ['-f', 'raw', '-t', '-e', '8', '--cache=writeback', '-k', socket, `rbd:rbd/qemu:conf=${ceph.conf}`],
    ],
  };
  const uris = {};
  const pids = {};
  for (const [name, command] of Object.entries(commands)) {
    ceph.run('rbd', 'create', name, '--size', `${mib}M`);
    const socket = join(folder, `${name}.sock`);
    const child = spawn(...command(socket), { stdio: ['ignore', 'ignore', 'inherit'] });
    servers.push(child);
    pids[name] = child.pid;
    for (let i = 0; !existsSync(socket); i++) {
      if (i > 400 || child.exitCode !== null) throw new Error(`${name} does not start`);
      await sleep(50);
    }
    uris[name] = `nbd+unix:///?socket=${socket}`;
    // With a flush: without one, librbd's cache does not acknowledge a write before it is durable.
    fio(uris[name], { rw: 'write', bs: '1M', depth: 8 }, ['--end_fsync=1']);
  }
  console.log(machineLine());
  console.log(`${flags.rounds} rounds of ${flags.seconds} s`);
  const names = Object.keys(commands);
  for (const job of jobs) {
    const rates = { farbus: [], qemu: [] };
    const cpus = { farbus: [], qemu: [] };
    for (let round = 0; round < Number(flags.rounds); round++) {
      for (const name of round % 2 === 0 ? names : [...names].reverse()) {
        const before = cpuSeconds(pids[name]);
        const { rate, count } = fio(uris[name], job, ['--time_based', `--runtime=${flags.seconds}`]);
        rates[name].push(rate);
        cpus[name].push(((cpuSeconds(pids[name]) - before) / Math.max(1, count)) * 1e6);
      }
    }
    const [ours, theirs] = [rates.farbus, rates.qemu].map((all) => median(all).toFixed(0));
    const [ourCpu, theirCpu] = [cpus.farbus, cpus.qemu].map((all) => median(all).toFixed(0));
    console.log(
      `${job.name}: ${ratio(rates.farbus, rates.qemu)}; farbus ${ours}, qemu-nbd ${theirs} a second; ` +
        `processor: farbus ${ourCpu}, qemu-nbd ${theirCpu} µs an operation`,
    );
  }
} finally {
  for (const child of servers) child.kill('SIGKILL');
  ceph.stop();
  await sleep(300);
  rmSync(folder, { recursive: true, force: true });
}
