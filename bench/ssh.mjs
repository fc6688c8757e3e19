/**
 * Disks over ssh against nbdkit's ssh plugin: the same file on one private sshd, alternating,
 * medians. Both are measured from this process: ours as a BlockDevice as every command opens it
 * (with merging and read-ahead), nbdkit's through our NBD initiator over a unix socket, whose share
 * of the time is small.
 *
 * node bench/ssh.mjs [ROUNDS]
 * Needs: /usr/sbin/sshd, ssh, nbdkit.
 */
import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buffersOf } from '../dist/base/buffers.js';
import { openNbd } from '../dist/protocol/nbd/initiator/open.node.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { startSshd } from './sshd.mjs';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 9);
const mib = 128;
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const children = [];
const at = (name) => join(folder, name);

function prepareImage() {
  const image = Buffer.alloc(mib << 20);
  for (let i = 0; i < mib; i++) randomFillSync(image, i << 20, 1 << 20);
  writeFileSync(at('disk.img'), image);
}

async function start() {
  const { child, port, user, key } = await startSshd(folder);
  children.push(child);
  const socket = at('nbd.sock');
  const parameters = ['host=127.0.0.1', `port=${port}`, `user=${user}`, `path=${at('disk.img')}`];
  const keys = [`identity=${key}`, 'verify-remote-host=false'];
  children.push(
    spawn('nbdkit', ['-f', '-U', socket, 'ssh', ...parameters, ...keys], { stdio: ['ignore', 'ignore', 'inherit'] }),
  );
  for (let i = 0; !existsSync(socket); i++) {
    if (i > 100) throw new Error('nbdkit does not start');
    await sleep(50);
  }
  const options = { log: { log: () => undefined } };
  return {
    nbdkit: await openNbd(`nbd+unix:///?socket=${socket}`),
    sftp: await openSource(parseSource(`ssh+sftp://test${at('disk.img')}`), options),
    dd: await openSource(parseSource(`ssh+dd://test${at('disk.img')}`), options),
  };
}

/** Requests a second: `count` reads of `length` bytes, `depth` in flight at once. */
async function rate(device, length, depth, count, random) {
  const blocks = (mib << 20) / length;
  let next = 0;
  const worker = async () => {
    const into = buffersOf(new Uint8Array(length));
    while (next < count) {
      const n = next++;
      await device.read((random ? Math.floor(Math.random() * blocks) : n % blocks) * length, into);
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: depth }, worker));
  return (count / (performance.now() - began)) * 1000;
}

try {
  prepareImage();
  const devices = await start();
  console.log(machineLine());
  const jobs = [
    { name: '1 MiB sequential reads, depth 4', length: 1 << 20, depth: 4, count: 96, wanted: { sftp: 1.3, dd: 1 } },
    { name: '1 MiB sequential reads, depth 1', length: 1 << 20, depth: 1, count: 64, wanted: { sftp: 1.3, dd: 1 } },
    { name: '4 KiB random reads, depth 16', length: 4096, depth: 16, count: 3000, random: true, wanted: { sftp: 3 } },
    { name: '4 KiB random reads, depth 1', length: 4096, depth: 1, count: 600, random: true, wanted: { sftp: 0.9 } },
  ];
  for (const { name, length, depth, count, random, wanted } of jobs) {
    const rates = { nbdkit: [], sftp: [], dd: [] };
    const names = Object.keys(rates);
    for (let round = -1; round < rounds; round++) {
      for (let i = 0; i < names.length; i++) {
        const which = names[(i + round + names.length) % names.length];
        const few = which === 'dd' && length === 4096 ? Math.ceil(count / 10) : count;
        const got = await rate(devices[which], length, depth, few, random);
        if (round >= 0) rates[which].push(got);
      }
    }
    console.log(`${name}:`);
    for (const which of names) {
      const each = median(rates[which]);
      const shown =
        length === 4096
          ? `${each.toFixed(0)} a second, ${((1000 * depth) / each).toFixed(2)} ms`
          : `${each.toFixed(0)} MiB/s`;
      const against = which === 'nbdkit' ? '' : `; ${ratio(rates[which], rates.nbdkit)} of nbdkit`;
      const goal = wanted[which]
        ? ` (wanted: at least ${wanted[which]})`
        : which === 'dd' && depth === 1
          ? ' (wanted: at most 2 ms)'
          : '';
      console.log(`  ${which}: ${shown}${against}${goal}`);
    }
  }
  for (const device of Object.values(devices)) await device.close();
} finally {
  for (const child of children) child.kill('SIGTERM');
  rmSync(folder, { recursive: true, force: true });
}
