/**
 * The pause when one of two gateways of a Ceph image is lost: eight writers that check what they
 * have written, over `nbd://a,b/disk`. The gateway in use is killed, then frozen, in turn. Prints
 * the longest time that a request took around each loss.
 *
 * node bench/failover.mjs [--rounds N] [--detect S]
 *
 * Needs: ceph-mon, ceph-osd, ceph-mgr, rbd.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openNbd } from '../dist/api/node.js';
import { freePort, startCeph } from './ceph.mjs';
import { machineLine, median } from './report.mjs';

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string', default: '10' }, detect: { type: 'string', default: '5' } },
});
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const farbus = new URL('../bin/farbus.js', import.meta.url).pathname;
const workers = 8;
const length = 4096;

class Gateway {
  constructor(port, source) {
    this.uri = `nbd://127.0.0.1:${port}/disk`;
    this.port = port;
    this.source = source;
  }

  async start() {
    const args = [farbus, 'serve', `disk=${this.source}`, '--listen', `nbd://127.0.0.1:${this.port}`];
    this.child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise((resolve, reject) => {
      this.child.stdout.once('data', resolve);
      this.child.once('exit', () => reject(new Error('a gateway does not start')));
    });
  }
}

const load = { longest: 0, over: false, rounds: 0 };

async function work(device, index) {
  const share = device.info.size / workers;
  const known = new Map();
  for (let round = 0; !load.over; round++) {
    const offset = index * share + ((round * 7919) % (share / length)) * length;
    const began = performance.now();
    if (known.has(offset)) {
      const bytes = Buffer.alloc(length);
      await device.read(offset, bytes);
      if (bytes.readUInt32LE(0) !== known.get(offset)) throw new Error(`byte ${offset} has other data`);
    }
    await device.write(offset, Buffer.alloc(length, Buffer.of(round & 0xff, round >> 8, 1, 0)));
    known.set(offset, Buffer.of(round & 0xff, round >> 8, 1, 0).readUInt32LE(0));
    load.longest = Math.max(load.longest, performance.now() - began);
    load.rounds++;
  }
}

const until = async (condition) => {
  while (!condition()) await sleep(5);
};

const gateways = [];
const ceph = await startCeph(folder);
try {
  ceph.run('rbd', 'create', 'disk', '--size', '16M');
  const source = `rbd:rbd/disk?conf=${ceph.conf}&standby=1`;
  for (let i = 0; i < 2; i++) {
    gateways.push(new Gateway(await freePort(), source));
    await gateways[i].start();
  }
  const hosts = gateways.map(({ port }) => `127.0.0.1:${port}`).join(',');
  const device = await openNbd(`nbd://${hosts}/disk?x-detect=${flags.detect}`);
  const running = Array.from({ length: workers }, (_, index) => work(device, index));
  const failed = Promise.all(running);
  console.log(machineLine());
  for (const how of ['killed', 'frozen']) {
    const pauses = [];
    for (let round = 0; round < Number(flags.rounds); round++) {
      const lost = gateways.find(({ uri }) => uri === device.info.route);
      await sleep(1500);
      load.longest = 0;
      lost.child.removeAllListeners('exit');
      lost.child.kill(how === 'killed' ? 'SIGKILL' : 'SIGSTOP');
      await Promise.race([until(() => device.info.route !== lost.uri), failed]);
      const rounds = load.rounds;
      await Promise.race([until(() => load.rounds > rounds + 4 * workers), failed]);
      pauses.push(load.longest);
      if (how === 'killed') await lost.start();
      else lost.child.kill('SIGCONT');
    }
    const seconds = (ms) => (ms / 1000).toFixed(2);
    const limits = { killed: 2, frozen: Number(flags.detect) + 2 };
    console.log(
      `${how}: longest pause ${seconds(Math.max(...pauses))} s, median ${seconds(median(pauses))} s, ` +
        `shortest ${seconds(Math.min(...pauses))} s; wanted at most ${limits[how]} s`,
    );
  }
  load.over = true;
  await failed;
  await device.close();
} finally {
  for (const { child } of gateways) child?.kill('SIGKILL');
  ceph.stop();
  await sleep(300);
  rmSync(folder, { recursive: true, force: true });
}
