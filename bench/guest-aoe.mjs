/**
 * Throughput of a guest over AoE with frames of 9000 bytes, against NBD: direct reads of 1 MiB from
 * one file that `farbus serve` serves in another process, over UDP and TCP loopback; alternating in
 * one boot, medians.
 *
 * node bench/guest-aoe.mjs [ROUNDS [FOLDER]]     FOLDER: for the file; default /dev/shm, else /tmp
 */
import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chooseGuest, createComputer, startGuest } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 7);
const mib = 128;
const log = { log: () => undefined };
const folder = mkdtempSync(join(process.argv[3] ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir()), 'farbus-bench-'));
const image = join(folder, 'disk.img');
writeFileSync(image, randomFillSync(new Uint8Array(mib << 20)));

async function freePort() {
  const socket = createSocket('udp4');
  await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

const [a, b] = [await freePort(), await freePort()];
const segment = (from, to) => `aoe:1.0@udp:127.0.0.1:${from}/127.0.0.1:${to}?mtu=9000`;
const serve = (listen) => {
  // Read-only for both: two servers do not write one file.
  const args = ['bin/farbus.js', 'serve', image, '--read-only', '--json', '--listen', listen];
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
};
const servers = [serve('nbd://127.0.0.1:0'), serve(segment(a, b))];
try {
  const lines = await Promise.all(
    servers.map((server) => new Promise((resolve) => createInterface({ input: server.stdout }).once('line', resolve))),
  );
  const address = JSON.parse(lines[0]).listening[0].replace(/\/$/, '');
  const nbd = await openSource(parseSource(`${address}/disk.img`), { log });
  const aoe = await openSource(parseSource(segment(b, a)), { log });
  const guest = await chooseGuest({ log });
  const computer = await createComputer([nbd, aoe], 256 << 20, { log });
  await startGuest(computer, guest, undefined, 256 << 20);
  const disks = { nbd: '/dev/nvme0n1', aoe: '/dev/nvme1n1' };
  const read = async (disk) => {
    const started = performance.now();
    const command = `dd if=${disk} of=/dev/null bs=1M count=${mib} iflag=direct 2>/dev/null`;
    const { status, output } = await computer.console.run(command);
    if (status !== 0) throw new Error(`${command}: ${output}`);
    return performance.now() - started;
  };
  console.log(machineLine());
  const ms = { nbd: [], aoe: [] };
  for (let round = -2; round < rounds; round++) {
    for (const name of round % 2 === 0 ? ['nbd', 'aoe'] : ['aoe', 'nbd']) {
      const took = await read(disks[name]);
      if (round >= 0) ms[name].push(took);
    }
  }
  const rate = (name) => (mib / median(ms[name])) * 1000;
  console.log(
    `1 MiB direct reads: AoE ${rate('aoe').toFixed(0)} MiB/s, NBD ${rate('nbd').toFixed(0)} MiB/s; ` +
      `AoE/NBD ${ratio(ms.nbd, ms.aoe)} (wanted: at least 0.5)`,
  );
  await computer.stop();
  await Promise.all([nbd.close(), aoe.close()]);
} finally {
  for (const server of servers) server.kill('SIGTERM');
  rmSync(folder, { recursive: true, force: true });
}
