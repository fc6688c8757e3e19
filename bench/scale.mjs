/**
 * Many gateways: a discrete-event model (scale-model.mjs) of 10 to 10,000 gateways and up to a
 * million clients, with the service times that --measure found; no cluster is needed. docs/scale.md
 * has its assumptions and results.
 *
 * node bench/scale.mjs [--seed N] [--check [--seconds S]] [--measure [--source SOURCE]]
 *
 * --measure prints what one gateway carries on this machine: requests and MiB a second, processor
 * time for a request and for a connection, memory for a connection. --check runs 1, 2 and 4
 * gateways on this machine and compares them with the model; their speed is limited by rate=, so
 * that the machine's processors are not what is measured. It then kills one of four.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { machineLine } from './report.mjs';
import { randomOf, simulate } from './scale-model.mjs';

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '20' },
    check: { type: 'boolean', default: false },
    measure: { type: 'boolean', default: false },
    source: { type: 'string', default: 'memory:64M' },
  },
});
const seed = Number(flags.seed);
const ms = 1e-3;

/** Found by --measure, in seconds; see docs/scale.md. */
const request = 40e-6;
const handshake = ms;

/** Assumptions about the rest: a pool of flash disks in the same network. */
const pool = { storage: { mean: ms }, network: 0.1 * ms };
const clientsThink = { mean: 1 };

const inMs = (seconds) => (seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${seconds.toFixed(1)} s`);

async function simulation() {
  const began = performance.now();
  const row = (...cells) => console.log(`| ${cells.join(' | ')} |`);
  row('gateways', 'clients', 'requests a second', 'busy', 'p50', 'p99', 'lost', 'clients hit', 'all back', 'p99 after');
  row(...Array.from({ length: 10 }, () => '---'));
  const line = (gateways, clients, frozen) => {
    // A frozen gateway is noticed after x-detect; some clients then draw it again.
    const detection = frozen ? 5 : 0;
    const loss = { at: 1.5, share: 0.01, frozen, detection, handshake, backoff: 0.1, longestBackoff: 2 };
    const seconds = frozen ? 20 : 3;
    const run = {
      gateways,
      clients,
      seconds,
      warmup: 0.5,
      seed,
      think: clientsThink,
      service: { mean: request },
      ...pool,
    };
    const found = simulate({ ...run, loss });
    const lost = Math.max(1, Math.round(gateways * loss.share));
    const figures = [
      found.throughput.toFixed(0),
      `${(100 * found.busy).toFixed(1)} %`,
      inMs(found.p50),
      inMs(found.p99),
    ];
    const after = [found.affected, inMs(found.back), inMs(found.p99After)];
    row(gateways, clients, ...figures, `${lost} ${frozen ? 'frozen' : 'killed'}`, ...after);
  };
  for (const [gateways, clients] of [
    [10, 1000],
    [10, 10_000],
    [10, 100_000],
    [100, 100_000],
    [100, 1_000_000],
    [1000, 1_000_000],
    [10_000, 1_000_000],
  ]) {
    for (const frozen of clients > 100_000 ? [false] : [false, true]) line(gateways, clients, frozen);
  }
  console.log(`${((performance.now() - began) / 1000).toFixed(0)} s; seed ${seed}`);
}

// Real gateways.

const running = [];

async function startGateway(source) {
  const farbus = fileURLToPath(new URL('../bin/farbus.js', import.meta.url));
  const options = ['--listen', 'nbd://127.0.0.1:0', '--json', '--max-per-address', 'none'];
  const child = spawn(process.execPath, [farbus, 'serve', `disk=${source}`, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.includes('\n')) break;
  }
  return { uri: JSON.parse(text).listening[0].replace(/\/*$/, '/disk'), pid: child.pid, child };
}

async function connect({ uri }) {
  const { openNbd } = await import('../dist/protocol/nbd/initiator/open.node.js');
  return await openNbd(uri, { reconnectSeconds: 0, log: { log: () => undefined } });
}

const bytes = 4096;
const size = 64 << 20;

/** Runs clients against gateways. Returns the sorted times of their requests, and their rate. */
async function load(gateways, count, think, seconds, whenHalf) {
  const { buffersOf } = await import('../dist/base/buffers.js');
  const random = randomOf(seed);
  const disks = await Promise.all(Array.from({ length: count }, (_, i) => connect(gateways[i % gateways.length])));
  const times = [];
  const pauses = [];
  const alive = new Set(gateways);
  const end = performance.now() + 1000 * seconds;
  const client = async (index) => {
    const into = buffersOf(new Uint8Array(bytes));
    for (;;) {
      await sleep(-1000 * think * Math.log(random()));
      const began = performance.now();
      if (began >= end) break;
      let failed = false;
      for (;;) {
        try {
          await disks[index].read(Math.floor((random() * size) / bytes) * bytes, into);
          break;
        } catch {
          // The gateway is lost: go to another one, as a client with a list of gateways does.
          failed = true;
          void disks[index].close().catch(() => undefined);
          const left = [...alive];
          disks[index] = await connect(left[Math.floor(random() * left.length)]);
        }
      }
      (failed ? pauses : times).push((performance.now() - began) / 1000);
    }
  };
  const began = performance.now();
  const half = whenHalf && sleep(500 * seconds).then(() => whenHalf(alive));
  await Promise.all(disks.map((_, index) => client(index)));
  await half;
  const rate = (times.length + pauses.length) / ((performance.now() - began) / 1000);
  await Promise.all(disks.map((disk) => disk.close()));
  return { times: times.sort((a, b) => a - b), pauses: pauses.sort((a, b) => a - b), rate };
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const error = (real, model) => `${(100 * (model / real - 1)).toFixed(0)} %`;

async function check() {
  console.log(machineLine());
  const rate = 1 << 20;
  const service = { mean: bytes / rate, fixed: true };
  // One request without a queue: what the model calls storage and network here.
  const free = await startGateway('memory:64M');
  const alone = await load([free], 1, 2 * ms, 3);
  const rest = { storage: { quantiles: alone.times }, network: 0 };
  console.log(
    `a request without a queue: p50 ${inMs(quantile(alone.times, 0.5))}, p99 ${inMs(quantile(alone.times, 0.99))}`,
  );
  const gateways = [];
  for (let i = 0; i < 4; i++) gateways.push(await startGateway(`memory:64M,rate=${rate}`));
  const seconds = Number(flags.seconds);
  for (const [used, each, think] of [1, 2, 4].flatMap((n) => [
    [n, 20, 0.1],
    [n, 40, 0.1],
  ])) {
    const real = await load(gateways.slice(0, used), used * each, think, seconds);
    // The bucket of rate= holds 64 KiB: so much passes ahead of the rate.
    const options = {
      gateways: used,
      clients: used * each,
      seconds: 300,
      warmup: 20,
      seed,
      think: { mean: think },
      service,
    };
    const model = simulate({ ...options, ...rest, burst: 65_536 / rate });
    console.log(
      `${used} gateways, ${used * each} clients: ${real.rate.toFixed(0)} a second, model ${error(real.rate, model.throughput)}; ` +
        `mean ${inMs(mean(real.times))}, model ${error(mean(real.times), model.mean)}; ` +
        `p50 ${inMs(quantile(real.times, 0.5))}, model ${error(quantile(real.times, 0.5), model.p50)}; ` +
        `p99 ${inMs(quantile(real.times, 0.99))}, model ${error(quantile(real.times, 0.99), model.p99)}`,
    );
  }
  let affected = 0;
  const lossy = await load(gateways, 80, 0.1, seconds, async (alive) => {
    affected = 20;
    alive.delete(gateways[3]);
    gateways[3].child.kill('SIGKILL');
  });
  console.log(
    `one of 4 killed, ${affected} clients hit: their pauses p50 ${inMs(quantile(lossy.pauses, 0.5))}, longest ${inMs(quantile(lossy.pauses, 1))}`,
  );
  const loss = { at: 150, share: 0.25, frozen: false, detection: 0, handshake, backoff: 0.1, longestBackoff: 2 };
  const options = { gateways: 4, clients: 80, seconds: 300, warmup: 20, seed, think: { mean: 0.1 }, service, ...rest };
  const model = simulate({ ...options, burst: 65_536 / rate, loss });
  console.log(`in the model: ${model.affected} hit, p50 ${inMs(model.pauseP50)}, longest ${inMs(model.pauseMax)}`);
  console.log(machineLine());
}

/** Processor time and memory of a process: seconds, and bytes in memory (proc(5)). */
function usage(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1];
  return { cpu: (Number(fields[11]) + Number(fields[12])) / 100, memory: Number(rss) * 1024 };
}

async function measure() {
  console.log(machineLine());
  const gateway = await startGateway(flags.source);
  const before = usage(gateway.pid);
  const connections = [];
  const count = 500;
  for (let i = 0; i < count; i++) connections.push(await connect(gateway));
  const connected = usage(gateway.pid);
  console.log(
    `a connection: ${inMs((connected.cpu - before.cpu) / count)} of processor time, ` +
      `${((connected.memory - before.memory) / count / 1024).toFixed(0)} KiB; ${count} connections, ` +
      `${(connected.memory / 2 ** 20).toFixed(0)} MiB in all`,
  );
  const { buffersOf } = await import('../dist/base/buffers.js');
  for (const [length, depth] of [
    [4096, 64],
    [1 << 20, 8],
  ]) {
    const start = usage(gateway.pid);
    const began = performance.now();
    let done = 0;
    const worker = async (index) => {
      const into = buffersOf(new Uint8Array(length));
      while (performance.now() - began < 5000) {
        await connections[index % connections.length].read((done * length) % size, into);
        done++;
      }
    };
    await Promise.all(Array.from({ length: depth }, (_, index) => worker(index)));
    const wall = (performance.now() - began) / 1000;
    const { cpu } = usage(gateway.pid);
    console.log(
      `${length} bytes, ${depth} connections: ${(done / wall).toFixed(0)} a second, ` +
        `${(((cpu - start.cpu) / done) * 1e6).toFixed(0)} µs of processor time each`,
    );
  }
  const used = usage(gateway.pid);
  console.log(`afterwards ${(used.memory / 2 ** 20).toFixed(0)} MiB`);
  await Promise.all(connections.map((one) => one.close()));
}

try {
  if (flags.measure) await measure();
  else if (flags.check) await check();
  else await simulation();
} finally {
  for (const child of running) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill();
    await once(child, 'exit');
  }
}
