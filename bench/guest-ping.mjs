/**
 * Latency of OS 2's answer to a ping while its hypervisor serves a client at full load, against an
 * idle one: a site with a server and a client computer, each in its own process; echo requests (RFC
 * 792) from a station on their segment in this process; alternating, medians. This process measures
 * the time, so delays of its own event loop count as well.
 *
 * node bench/guest-ping.mjs [ROUNDS [PINGS]]
 */
import { fileURLToPath } from 'node:url';
import { Hub } from '../dist/network/ethernet/hub.js';
import { parseMac } from '../dist/network/ethernet/mac.js';
import { inProcesses } from '../dist/site/process.node.js';
import { readSite } from '../dist/app/config/site.js';
import { Supervisor } from '../dist/site/supervisor.js';
import { machineLine, median } from './report.mjs';

const rounds = Number(process.argv[2] ?? 5);
const pings = Number(process.argv[3] ?? 100);
const lostMs = 2000;
const text = `
segments: { lan: { mtu: 9000 } }
computers:
  store:
    role: server
    network: lan
    address: 10.0.0.2/24
    devices: { disk: { source: 'memory:64M' } }
  desk:
    role: client
    network: lan
    address: 10.0.0.1/24
    drives: [{ far: store/disk }]
`;
const ours = { mac: parseMac('02:00:00:00:00:99'), ip: [10, 0, 0, 9] };
const theirs = { ip: [10, 0, 0, 2] };
const loads = {
  '1 MiB direct reads, 4 at a time':
    'for i in 1 2 3 4; do while test -e /tmp/go; do dd if=/dev/nvme0n1 of=/dev/null bs=1M count=64 iflag=direct 2>/dev/null; done & done',
  '1 MiB direct writes, 4 at a time':
    'for i in 1 2 3 4; do while test -e /tmp/go; do dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=64 oflag=direct 2>/dev/null; done & done',
  '4 KiB direct reads, 8 at a time':
    'for i in 1 2 3 4 5 6 7 8; do while test -e /tmp/go; do dd if=/dev/nvme0n1 of=/dev/null bs=4k count=2000 iflag=direct 2>/dev/null; done & done',
};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** RFC 1071. */
function checksum(bytes) {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** RFC 826; `operation` 1 asks, 2 answers. */
function arp(operation, targetMac) {
  const frame = new Uint8Array(60);
  frame.set(operation === 1 ? new Uint8Array(6).fill(0xff) : targetMac);
  frame.set(ours.mac, 6);
  frame.set([8, 6, 0, 1, 8, 0, 6, 4, 0, operation], 12);
  frame.set([...ours.mac, ...ours.ip], 22);
  if (operation === 2) frame.set(targetMac, 32);
  frame.set(theirs.ip, 38);
  return frame;
}

/** An echo request with 56 bytes of data, as ping sends it. */
function echo(sequence) {
  const frame = new Uint8Array(14 + 20 + 8 + 56);
  frame.set(theirs.mac);
  frame.set(ours.mac, 6);
  frame.set([8, 0], 12);
  const ip = frame.subarray(14, 34);
  ip.set([0x45, 0, 0, 84, 0, 0, 0x40, 0, 64, 1, 0, 0, ...ours.ip, ...theirs.ip]);
  ip.set([checksum(ip) >> 8, checksum(ip) & 0xff], 10);
  const icmp = frame.subarray(34);
  icmp.set([8, 0, 0, 0, 0xfa, 0xb5, sequence >> 8, sequence & 0xff]);
  icmp.set([checksum(icmp) >> 8, checksum(icmp) & 0xff], 2);
  return frame;
}

const waiting = new Map();

function arrived(frame) {
  const type = (frame[12] << 8) | frame[13];
  if (type === 0x0806) {
    if (frame[21] === 2) theirs.mac ??= frame.slice(6, 12);
    else if (frame.subarray(38, 42).every((byte, i) => byte === ours.ip[i])) port.send(arp(2, frame.slice(6, 12)));
  } else if (type === 0x0800 && frame[23] === 1 && frame[34] === 0) {
    waiting.get((frame[40] << 8) | frame[41])?.();
  }
}

let sequence = 0;

/** ms until the answer. */
async function ping() {
  sequence = (sequence + 1) & 0xffff;
  const began = performance.now();
  const answered = new Promise((resolve) => waiting.set(sequence, () => resolve(performance.now() - began)));
  port.send(echo(sequence));
  const took = await Promise.race([answered, sleep(lostMs).then(() => undefined)]);
  waiting.delete(sequence);
  if (took === undefined) lost++;
  return took ?? lostMs;
}

async function series() {
  const times = [];
  for (let i = 0; i < pings; i++) {
    times.push(await ping());
    await sleep(5 + 10 * Math.random());
  }
  return times;
}

const hub = new Hub({ name: 'lan', mtu: 9000 });
const states = new Map();
let consoleText = '';
let lost = 0;
const supervisor = new Supervisor(
  readSite('bench', text, { name: 'bench', checkDrive: () => undefined, checkFile: () => undefined }),
  {
    openSegment: async () => hub,
    start: inProcesses(fileURLToPath(new URL('../dist/app/site/child.js', import.meta.url))),
    traceFolder: undefined,
    events: {
      status: ({ name, state, detail }) => {
        states.set(name, state);
        if (state === 'failed' || state === 'crashed') throw new Error(`${name}: ${state}: ${detail}`);
      },
      output: (computer, bytes) => {
        if (computer === 'desk') consoleText = (consoleText + Buffer.from(bytes).toString()).slice(-4096);
      },
      log: () => undefined,
    },
  },
);
const port = hub.attach({ mac: ours.mac, onFrame: arrived });

async function until(what, done) {
  for (const end = performance.now() + 300_000; !done(); await sleep(50)) {
    if (performance.now() > end) throw new Error(`no ${what}`);
  }
}

async function atDesk(command) {
  consoleText = '';
  supervisor.input('desk', Buffer.from(`${command}; echo do""ne\n`));
  await until(`end of ${command}`, () => consoleText.includes('done'));
}

const p95 = (times) => [...times].sort((a, b) => a - b)[Math.floor(times.length * 0.95)];

try {
  await supervisor.start();
  await until('running site', () => states.get('desk') === 'running' && states.get('store') === 'running');
  await sleep(3000);
  port.send(arp(1));
  await until('answer of OS 2', () => theirs.mac);
  await series(); // to warm up
  console.log(machineLine());
  lost = 0;
  for (const [name, command] of Object.entries(loads)) {
    const [idle, loaded] = [[], []];
    let frames = 0;
    let ms = 0;
    for (let round = 0; round < rounds; round++) {
      idle.push(...(await series()));
      await atDesk('touch /tmp/go');
      await atDesk(`{ ${command}; }`);
      await sleep(1000);
      const before = [hub.counters.sentBytes, performance.now()];
      loaded.push(...(await series()));
      frames += hub.counters.sentBytes - before[0];
      ms += performance.now() - before[1];
      await atDesk('rm /tmp/go; wait');
      await sleep(500);
    }
    const limit = 2 * median(idle) + 2;
    console.log(
      `${name} (${(frames / ms / 1048.576).toFixed(0)} MiB/s on the segment): ping ${median(loaded).toFixed(2)} ms ` +
        `(95 %: ${p95(loaded).toFixed(1)}), idle ${median(idle).toFixed(2)} ms (95 %: ${p95(idle).toFixed(1)}); ` +
        `wanted: below ${limit.toFixed(2)} ms; ${lost} lost`,
    );
  }
} finally {
  await supervisor.stop();
  port.close();
}
