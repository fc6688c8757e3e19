/**
 * AoE over a veth pair with frames of 9000 bytes, in a private network namespace: our target
 * against vblade, with the same initiator (ours) and the same file in the page cache, alternating.
 * This also gives our initiator's figure with vblade.
 *
 * node bench/aoe.mjs [rounds]
 * Needs: root, vblade, ip.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machineLine, median, ratio } from './report.mjs';

const dist = process.env.FARBUS_DIST ?? fileURLToPath(new URL('../dist', import.meta.url));
const load = (path) => import(join(dist, path));
const { openPacket } = await load('network/ethernet/packet.node.js');

const aoe = { etherType: 0x88a2 };
const size = 256 << 20;
const roundMs = 1000;

if (process.argv[2] === '--target') {
  const { AoeTarget } = await load('protocol/aoe/target/target.js');
  const { openPath } = await load('storage/open.node.js');
  const [, , , interfaceName, file] = process.argv;
  const device = await openPath(file);
  process.once('SIGINT', () => process.exit());
  new AoeTarget(openPacket(interfaceName, aoe), device, { shelf: 2, slot: 0, bufferCount: 64 });
  console.log('ready');
} else {
  await main(Number(process.argv[2] ?? 7));
}

async function main(rounds) {
  const koffi = createRequire(import.meta.url)('koffi');
  const unshare = koffi.load(null).func('int unshare(int)');
  if (unshare(0x40000000) !== 0) throw new Error('a network namespace of its own needs root');
  const ip = (...args) => execFileSync('ip', args, { stdio: 'inherit' });
  for (const [a, b] of [
    ['va', 'vblade0'],
    ['vo', 'vours0'],
  ]) {
    ip('link', 'add', a, 'mtu', '9000', 'type', 'veth', 'peer', 'name', b, 'mtu', '9000');
    for (const name of [a, b]) ip('link', 'set', name, 'up');
  }
  const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
  const file = join(folder, 'disk.img');
  writeFileSync(file, Buffer.alloc(size, 1));
  const children = [
    spawn('vblade', ['1', '0', 'vblade0', file], { stdio: ['ignore', 'pipe', 'inherit'] }),
    spawn(process.execPath, [fileURLToPath(import.meta.url), '--target', 'vours0', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  ];
  try {
    for (const child of children) await once(child.stdout, 'data');
    await measure(rounds, { vblade: children[0].pid, ours: children[1].pid });
  } finally {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  }
}

/** Processor time that a process has used, in µs (proc(5); its clock has 100 ticks a second). */
function processorTime(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

async function measure(rounds, pids) {
  const { connectAoe } = await load('protocol/aoe/initiator/initiator.js');
  const { buffersOf } = await load('base/buffers.js');
  const segments = [openPacket('va', aoe), openPacket('vo', aoe)];
  const vblade = await connectAoe(segments[0], { shelf: 1, slot: 0 });
  const ours = await connectAoe(segments[1], { shelf: 2, slot: 0 });

  /**
   * Keeps `depth` requests of `length` bytes in flight, at the offsets that `next()` gives. Returns
   * MB/s, and the processor time of the target and of the initiator per 8 KiB, in µs.
   */
  const run = async (device, pid, what, length, depth, next) => {
    const began = performance.now();
    const cpu = [processorTime(pid), process.cpuUsage()];
    let bytes = 0;
    const one = async () => {
      const buffer = new Uint8Array(length).fill(7);
      while (performance.now() - began < roundMs) {
        await device[what](next(), buffersOf(buffer));
        bytes += length;
      }
    };
    await Promise.all(Array.from({ length: depth }, one));
    const rate = bytes / 1000 / (performance.now() - began);
    const { user, system } = process.cpuUsage(cpu[1]);
    const each = bytes / 8192;
    return { rate, target: (processorTime(pid) - cpu[0]) / each, initiator: (user + system) / each };
  };
  const random = (length) => () => Math.floor(Math.random() * (size / length)) * length;
  const stream = (length) => {
    let at = -length;
    return () => (at = (at + length) % size);
  };
  const jobs = [
    ['8 KiB reads, depth 1', 'read', 8192, 1, random],
    ['8 KiB reads, depth 16', 'read', 8192, 16, random],
    ['8 KiB writes, depth 16', 'write', 8192, 16, random],
    ['1 MiB streams read', 'read', 1 << 20, 2, stream],
    ['1 MiB streams written', 'write', 1 << 20, 2, stream],
  ];
  console.log(machineLine());
  console.log(
    `MB/s, medians of ${rounds} alternating rounds; ours / vblade by rounds (least–greatest); µs of processor time for 8 KiB`,
  );
  for (const [name, what, length, depth, places] of jobs) {
    const figures = { vblade: [], ours: [] };
    for (let round = -1; round < rounds; round++) {
      for (const [key, device] of [
        ['vblade', vblade],
        ['ours', ours],
      ]) {
        const figure = await run(device, pids[key], what, length, depth, places(length));
        // The first round warms up.
        if (round >= 0) figures[key].push(figure);
      }
    }
    const all = (key, what) => figures[key].map((figure) => figure[what]);
    const both = (what, digits) =>
      `vblade ${median(all('vblade', what)).toFixed(digits)}  ours ${median(all('ours', what)).toFixed(digits)}`;
    const line = `${both('rate', 0)}  ratio ${ratio(all('ours', 'rate'), all('vblade', 'rate'))}`;
    console.log(`${name.padEnd(24)} ${line.padEnd(55)} µs: ${both('target', 1)}, initiator ${both('initiator', 1)}`);
  }
  console.log('repeated messages:', { vblade: vblade.counters.repeated, ours: ours.counters.repeated });
  await vblade.close();
  await ours.close();
  for (const segment of segments) await segment.close();
}
