/**
 * Reads a whole disk from an NBD server: our initiator against nbdcopy, both from the same nbdkit,
 * data discarded, alternating. The disk is 1 GiB of memory, over a unix socket and over TCP
 * loopback. Both use four connections: nbdcopy by default, ours as `farbus copy` opens a source.
 *
 * node bench/nbd-copy.mjs [ROUNDS]
 * Needs: nbdkit, nbdcopy.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buffersOf } from '../dist/base/buffers.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 7);
const mib = 1024;
const depth = 16;
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const socket = join(folder, 'sock');
const port = await new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const found = server.address().port;
    server.close(() => resolve(found));
  });
});

/** Reads a whole device with `depth` requests in flight and discards the data. Returns MiB/s. */
async function ours(uri) {
  const began = performance.now();
  const device = await openSource(parseSource(uri), { readOnly: true, connections: 4, log: { log: () => undefined } });
  const unit = 256 << 10;
  let next = 0;
  const reader = async () => {
    const into = buffersOf(new Uint8Array(unit));
    for (let at = next; at < device.info.size; at = next) {
      next += unit;
      await device.read(at, into);
    }
  };
  await Promise.all(Array.from({ length: depth }, reader));
  await device.close();
  return mib / ((performance.now() - began) / 1000);
}

function nbdcopy(uri) {
  const began = performance.now();
  execFileSync('nbdcopy', [uri, 'null:'], { stdio: ['ignore', 'ignore', 'inherit'] });
  return mib / ((performance.now() - began) / 1000);
}

const children = [
  spawn('nbdkit', ['-f', '-U', socket, 'pattern', `${mib}M`], { stdio: 'ignore' }),
  spawn('nbdkit', ['-f', '-i', '127.0.0.1', '-p', String(port), 'pattern', `${mib}M`], { stdio: 'ignore' }),
];
try {
  for (let i = 0; !existsSync(socket) && i < 200; i++) await sleep(50);
  await sleep(200);
  console.log(machineLine());
  const uris = { unix: `nbd+unix:///?socket=${socket}`, tcp: `nbd://127.0.0.1:${port}` };
  for (const [name, uri] of Object.entries(uris)) {
    const rates = { farbus: [], nbdcopy: [] };
    for (let round = -1; round < rounds; round++) {
      const order = round % 2 ? ['farbus', 'nbdcopy'] : ['nbdcopy', 'farbus'];
      for (const which of order) {
        const rate = which === 'farbus' ? await ours(uri) : nbdcopy(uri);
        if (round >= 0) rates[which].push(rate);
      }
    }
    console.log(
      `${name}: farbus ${median(rates.farbus).toFixed(0)} MiB/s, nbdcopy ${median(rates.nbdcopy).toFixed(0)} MiB/s: ` +
        `${ratio(rates.farbus, rates.nbdcopy)} (wanted: at least 0.8)`,
    );
  }
} finally {
  for (const child of children) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  rmSync(folder, { recursive: true, force: true });
}
