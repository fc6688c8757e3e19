/**
 * `farbus serve` against the NBD servers in C: fio's nbd engine, one file of 1 GiB, the same jobs
 * on each server, alternating within each round. Prints medians of the rounds' ratios, and the
 * processor time that each server used.
 *
 * node bench/nbd.mjs [--rounds N] [--seconds S] [--only TEXT] [--cold] [--folder DIR] [--limit]
 *   [--peers nbdkit,qemu-nbd,nbd-server]
 *
 * --peers plain measures what the eager streams are worth: farbus with FARBUS_NO_EAGER, on a copy
 * of the file.
 *
 * --cold drops the file from the page cache before each run. --only runs the jobs whose names
 * contain TEXT. --limit also measures a minimal server in C (limit.c): about the most that fio and
 * the kernel allow a server with one thread.
 * Needs: nbdkit, qemu-nbd, nbd-server, fio; for --limit a C compiler, cc.
 */
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { machineLine, median } from './report.mjs';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    cold: { type: 'boolean', default: false },
    folder: { type: 'string', default: tmpdir() },
    limit: { type: 'boolean', default: false },
    peers: { type: 'string', default: 'nbdkit,qemu-nbd,nbd-server' },
  },
});
const rounds = Number(flags.rounds);
const mib = 1024;
const folder = mkdtempSync(join(flags.folder, 'farbus-bench-'));
const at = (name) => join(folder, name);
const image = at('disk.img');

/** Jobs and the ratio to the best peer that is wanted, by transport. */
const jobs = [
  { name: '4k random read, depth 64', rw: 'randread', bs: '4k', depth: 64, wanted: { tcp: 1.4, unix: 1.6 } },
  { name: '4k random read, depth 1', rw: 'randread', bs: '4k', depth: 1, wanted: { tcp: 1.5, unix: 1.5 } },
  { name: '4k random write, depth 64', rw: 'randwrite', bs: '4k', depth: 64, wanted: { tcp: 1.2, unix: 1.2 } },
  { name: '1M sequential read, depth 8', rw: 'read', bs: '1M', depth: 8, wanted: { tcp: 1.2, unix: 1.4 } },
  { name: '1M sequential write, depth 8', rw: 'write', bs: '1M', depth: 8, wanted: { tcp: 1.2, unix: 1.2 } },
];

async function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/**
 * Makes the image in pieces of 1 MiB, as people do. The size of the pieces matters: ext4 keeps each
 * as one large folio, and a 4 KiB write into it costs more than one into a small folio.
 */
function writeImage() {
  execFileSync('dd', [
    'if=/dev/urandom',
    `of=${image}`,
    'bs=1M',
    `count=${mib}`,
    'iflag=fullblock',
    'conv=fsync',
    'status=none',
  ]);
}

/** Lets the page cache forget the file: dd's nocache is posix_fadvise(POSIX_FADV_DONTNEED). */
function forget() {
  execFileSync('dd', [`if=${image}`, 'iflag=nocache', 'count=0', 'status=none']);
}

async function startFarbus(name, file, env) {
  const socket = at(`${name}.sock`);
  const port = await freePort();
  const farbus = new URL('../bin/farbus.js', import.meta.url).pathname;
  const listen = ['--listen', `nbd://127.0.0.1:${port}`, '--listen', `nbd+unix:///?socket=${socket}`];
  const child = spawn(process.execPath, [farbus, 'serve', file, ...listen], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...env },
  });
  const uris = { tcp: `nbd://127.0.0.1:${port}`, unix: `nbd+unix:///?socket=${socket}` };
  return { uris, pids: { tcp: child.pid, unix: child.pid }, stop: () => child.kill(), wait: socket };
}

/** Servers by name, each with its URIs by transport and its process. */
const starters = {
  farbus: () => startFarbus('farbus', image, {}),
  plain: () => {
    copyFileSync(image, at('plain.img'));
    return startFarbus('plain', at('plain.img'), { FARBUS_NO_EAGER: '1' });
  },
  nbdkit: async () => {
    const socket = at('nbdkit.sock');
    const port = await freePort();
    const tcp = spawn('nbdkit', ['-f', '-i', '127.0.0.1', '-p', String(port), 'file', image], { stdio: 'ignore' });
    const unix = spawn('nbdkit', ['-f', '-U', socket, 'file', image], { stdio: 'ignore' });
    const uris = { tcp: `nbd://127.0.0.1:${port}`, unix: `nbd+unix:///?socket=${socket}` };
    return { uris, pids: { tcp: tcp.pid, unix: unix.pid }, stop: () => [tcp, unix].map((c) => c.kill()), wait: socket };
  },
  'qemu-nbd': async () => {
    const socket = at('qemu.sock');
    const port = await freePort();
    const common = ['-f', 'raw', '-t', '-e', '8', '--cache=writeback'];
    const tcp = spawn('qemu-nbd', [...common, '-b', '127.0.0.1', '-p', String(port), image], { stdio: 'ignore' });
    await sleep(200);
    const unix = spawn('qemu-nbd', [...common, '-k', socket, image], { stdio: 'ignore' });
    const uris = { tcp: `nbd://127.0.0.1:${port}`, unix: `nbd+unix:///?socket=${socket}` };
    return { uris, pids: { tcp: tcp.pid, unix: unix.pid }, stop: () => [tcp, unix].map((c) => c.kill()), wait: socket };
  },
  'nbd-server': async () => {
    const socket = at('nbd.sock');
    const port = await freePort();
    const start = async (name, generic) => {
      const pidFile = at(`${name}.pid`);
      writeFileSync(at(name), `[generic]\n${generic}\nallowlist = true\n[disk]\nexportname = ${image}\n`);
      execFileSync('nbd-server', ['-C', at(name), '-p', pidFile], { stdio: 'ignore' });
      for (let i = 0; i < 100; i++) {
        const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0;
        if (pid > 0) return pid;
        await sleep(20);
      }
      throw new Error('nbd-server does not start');
    };
    const tcp = await start('tcp.conf', `listenaddr = 127.0.0.1\nport = ${port}`);
    const unix = await start('unix.conf', `unixsock = ${socket}\nlistenaddr = 127.0.0.1\nport = ${await freePort()}`);
    const uris = { tcp: `nbd://127.0.0.1:${port}/disk`, unix: `nbd+unix:///disk?socket=${socket}` };
    return { uris, pids: { tcp, unix }, stop: () => [tcp, unix].map((pid) => process.kill(pid)), wait: socket };
  },
};

/** Not a peer: no real server does so little. */
async function startLimit() {
  const program = at('limit');
  execFileSync('cc', ['-O2', '-o', program, new URL('limit.c', import.meta.url).pathname]);
  const socket = at('limit.sock');
  const port = await freePort();
  const [tcp, unix] = [String(port), socket].map((where) => spawn(program, [image, where], { stdio: 'ignore' }));
  const uris = { tcp: `nbd://127.0.0.1:${port}`, unix: `nbd+unix:///?socket=${socket}` };
  return { uris, pids: { tcp: tcp.pid, unix: unix.pid }, stop: () => [tcp, unix].map((c) => c.kill()), wait: socket };
}

/** Processor time of a process and its ended children, in s (proc(5): utime to cstime). */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0) / 100;
}

/** @returns operations/s, µs of the server's processor per operation, and fio's load in percent. */
async function run(server, transport, { rw, bs, depth }) {
  if (flags.cold) forget();
  const before = cpuSeconds(server.pids[transport]);
  const args = ['--name=job', '--ioengine=nbd', `--uri=${server.uris[transport]}`, `--rw=${rw}`, `--bs=${bs}`];
  args.push(
    `--iodepth=${depth}`,
    `--size=${mib}M`,
    '--time_based',
    `--runtime=${flags.seconds}`,
    '--output-format=json',
  );
  const out = execFileSync('fio', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  // The child of a forking server is waited for.
  await sleep(30);
  const job = JSON.parse(out.slice(out.indexOf('{'))).jobs[0];
  const side = rw.endsWith('write') ? job.write : job.read;
  const cpu = cpuSeconds(server.pids[transport]) - before;
  return { rate: side.iops, cpu: (cpu / Math.max(1, side.total_ios)) * 1e6, client: job.usr_cpu + job.sys_cpu };
}

const servers = {};
try {
  writeImage();
  const wanted = ['farbus', ...flags.peers.split(',').filter(Boolean), ...(flags.limit ? ['limit'] : [])];
  for (const name of wanted) {
    servers[name] = await (name === 'limit' ? startLimit() : starters[name]());
    for (let i = 0; !existsSync(servers[name].wait); i++) {
      if (i > 200) throw new Error(`${name} does not start`);
      await sleep(50);
    }
  }
  const names = Object.keys(servers);
  const peers = names.filter((name) => name !== 'farbus' && name !== 'limit');
  console.log(machineLine());
  console.log(`${flags.cold ? 'cold' : 'hot'} cache; ${rounds} rounds of ${flags.seconds} s`);
  for (const transport of ['tcp', 'unix']) {
    for (const job of jobs) {
      if (!`${transport} ${job.name}`.includes(flags.only)) continue;
      const rates = Object.fromEntries(names.map((name) => [name, []]));
      const cpus = Object.fromEntries(names.map((name) => [name, []]));
      const clients = Object.fromEntries(names.map((name) => [name, []]));
      for (let round = 0; round < rounds; round++) {
        for (let i = 0; i < names.length; i++) {
          const name = names[(i + round) % names.length];
          const got = await run(servers[name], transport, job);
          rates[name].push(got.rate);
          cpus[name].push(got.cpu);
          clients[name].push(got.client);
        }
      }
      const best = peers.reduce((a, b) => (median(rates[a]) >= median(rates[b]) ? a : b));
      const leanest = peers.reduce((a, b) => (median(cpus[a]) <= median(cpus[b]) ? a : b));
      const ratiosOf = (name) => rates[name].map((rate, i) => rate / rates[best][i]);
      const ratios = ratiosOf('farbus');
      const show = (name) =>
        job.bs === '4k' ? median(rates[name]).toFixed(0) : `${median(rates[name]).toFixed(0)} MiB`;
      console.log(
        `${transport} ${job.name}: ${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}) of ${best}` +
          `, wanted ${flags.cold ? 0.8 : job.wanted[transport]}; ${names.map((name) => `${name} ${show(name)}`).join(', ')} a second; ` +
          `CPU ${(median(cpus.farbus) / median(cpus[leanest])).toFixed(2)} of ${leanest}, wanted 0.8; ` +
          names.map((name) => `${name} ${median(cpus[name]).toFixed(1)}`).join(', ') +
          ` µs; fio ${median(clients.farbus).toFixed(0)} % busy` +
          (flags.limit
            ? `; the limit ${median(ratiosOf('limit')).toFixed(2)}, fio ${median(clients.limit).toFixed(0)} % busy`
            : ''),
      );
    }
  }
} finally {
  for (const { stop } of Object.values(servers)) stop();
  await sleep(300);
  rmSync(folder, { recursive: true, force: true });
}
