/**
 * Objects on web servers against nbdkit's curl plugin: the same nginx on loopback, with and without
 * 20 ms of delay for each round trip, both read by fio's nbd engine over a unix socket, alternating
 * within each round. Ours is `farbus serve http://...`.
 *
 * node bench/http.mjs [--rounds N] [--seconds S] [--only TEXT] [--profile] [--before FOLDER]
 *
 * --only runs the jobs whose names contain TEXT. --profile writes a profile of our server
 * (--cpu-prof) into the current folder. --before takes another checkout of Farbus, built, which
 * takes its turn in each round. With undici alone: FARBUS_NO_EAGER=1, which also turns off what
 * makes the NBD side faster.
 * Needs: nginx, nbdkit, fio.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { machineLine, median, ratio } from './report.mjs';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '2' },
    only: { type: 'string', default: '' },
    profile: { type: 'boolean', default: false },
    before: { type: 'string' },
  },
});
const rounds = Number(flags.rounds);
const mib = 512;
/** Half of the round trip. */
const delayMs = 10;
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const at = (name) => join(folder, name);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const env = { ...process.env, PATH: [process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter) };
const children = [];

const jobs = [
  { name: '1 MiB sequential reads, depth 1', rw: 'read', bs: '1M', depth: 1, wanted: { delay: 1.5, none: 1 } },
  { name: '1 MiB sequential reads, depth 8', rw: 'read', bs: '1M', depth: 8, wanted: { delay: 1.5, none: 1 } },
  { name: '4 KiB random reads, depth 16', rw: 'randread', bs: '4k', depth: 16, wanted: { delay: 3, none: 1 } },
  { name: '4 KiB random reads, depth 1', rw: 'randread', bs: '4k', depth: 1, wanted: {} },
];

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

function start(program, args, options = {}) {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'], ...options });
  children.push(child);
  return child;
}

async function untilThere(path) {
  for (let i = 0; !existsSync(path); i++) {
    if (i > 400) throw new Error(`${path} does not come`);
    await sleep(50);
  }
}

async function startNginx() {
  mkdirSync(at('www'));
  execFileSync('dd', ['if=/dev/urandom', `of=${at('www/disk.img')}`, 'bs=1M', `count=${mib}`, 'status=none']);
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((n) => `${n}_temp_path ${at(n)};`);
  const user = process.getuid?.() === 0 ? 'user root; ' : '';
  const server = `listen 127.0.0.1:${port}; root ${at('www')}; keepalive_requests 1000000000;`;
  const http = `access_log off; sendfile on; tcp_nopush on; ${temporary.join(' ')} server { ${server} }`;
  writeFileSync(at('nginx.conf'), `${user}daemon off; pid ${at('nginx.pid')}; events {} http { ${http} }`);
  start('nginx', ['-c', at('nginx.conf'), '-e', at('error.log')]);
  await untilThere(at('nginx.pid'));
  return port;
}

/** Both servers for the object behind `port`: names and unix sockets. */
async function startServers(name, port) {
  const url = `http://127.0.0.1:${port}/disk.img`;
  const profile = flags.profile ? ['--cpu-prof', `--cpu-prof-name=http-${name}.cpuprofile`] : [];
  const serve = (program, who, options = []) => {
    const listen = ['--listen', `nbd+unix:///?socket=${at(`${who}-${name}`)}`];
    return start(process.execPath, [...options, program, 'serve', `disk=${url}`, ...listen]);
  };
  const ours = serve(here('../bin/farbus.js'), 'farbus', profile);
  const theirs = start('nbdkit', ['-f', '-U', at(`nbdkit-${name}`), '-e', 'disk', 'curl', `url=${url}`]);
  const servers = {
    farbus: { socket: at(`farbus-${name}`), pid: ours.pid },
    nbdkit: { socket: at(`nbdkit-${name}`), pid: theirs.pid },
  };
  if (flags.before !== undefined) {
    const { pid } = serve(join(flags.before, 'bin/farbus.js'), 'before');
    servers.before = { socket: at(`before-${name}`), pid };
  }
  for (const { socket } of Object.values(servers)) await untilThere(socket);
  return servers;
}

/** Processor time of a process in s (proc(5): utime, stime). */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** @returns MiB/s or operations/s, and µs of the server's processor for each operation. */
async function run({ socket, pid }, { rw, bs, depth }) {
  const before = cpuSeconds(pid);
  const size = ['--size', `${mib}M`, '--time_based', `--runtime=${flags.seconds}`, '--output-format=json'];
  const uri = `--uri=nbd+unix:///disk?socket=${socket}`;
  const child = start('fio', ['--name=job', '--ioengine=nbd', uri, `--rw=${rw}`, `--bs=${bs}`, `--iodepth=${depth}`, ...size]); // prettier-ignore
  let out = '';
  child.stdout.on('data', (chunk) => (out += chunk));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`fio: status ${status}`);
  const { iops, total_ios: total } = JSON.parse(out.slice(out.indexOf('{'))).jobs[0].read;
  return { rate: iops, cpu: ((cpuSeconds(pid) - before) / Math.max(1, total)) * 1e6 };
}

try {
  const port = await startNginx();
  const far = await freePort();
  const proxy = start(process.execPath, [here('delaying-proxy.mjs'), far, port, delayMs].map(String));
  await once(proxy.stdout, 'data');
  const places = { delay: await startServers('delay', far), none: await startServers('none', port) };
  console.log(machineLine());
  for (const [place, servers] of Object.entries(places)) {
    for (const job of jobs) {
      const title = `${place === 'delay' ? `${2 * delayMs} ms` : 'no delay'}, ${job.name}`;
      if (!title.includes(flags.only)) continue;
      const names = Object.keys(servers);
      const rates = Object.fromEntries(names.map((name) => [name, []]));
      const cpus = Object.fromEntries(names.map((name) => [name, []]));
      for (let round = 0; round < rounds; round++) {
        for (const name of round % 2 === 0 ? names : names.toReversed()) {
          const got = await run(servers[name], job);
          rates[name].push(got.rate);
          cpus[name].push(got.cpu);
        }
      }
      const show = (name) =>
        `${name} ${median(rates[name]).toFixed(0)}${job.bs === '1M' ? ' MiB' : ''}/s, ${median(cpus[name]).toFixed(0)} µs`;
      const goal = job.wanted[place] === undefined ? '' : `, wanted ${job.wanted[place]}`;
      console.log(`${title}: ${ratio(rates.farbus, rates.nbdkit)}${goal}; ${names.map(show).join('; ')}`);
      if (rates.before) console.log(`  before: ${ratio(rates.before, rates.nbdkit)}`);
    }
  }
  console.log(machineLine());
} finally {
  for (const child of children) child.kill('SIGTERM');
  await sleep(flags.profile ? 2000 : 300);
  rmSync(folder, { recursive: true, force: true });
}
