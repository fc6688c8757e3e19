/**
 * Disks over ssh against nbdkit's ssh plugin: the same file on one sshd of the benchmark's own, alternating, medians. Both are
 * measured from this process: ours as a BlockDevice, nbdkit's by our NBD initiator over a unix socket, whose share is small.
 *
 * node bench/ssh.mjs [ROUNDS]
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buffersOf } from '../dist/base/buffers.js';
import { openNbd } from '../dist/protocol/nbd/initiator/open.node.js';
import { openSshDd } from '../dist/protocol/dd/open.node.js';
import { openSshSftp } from '../dist/protocol/sftp/open.node.js';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 9);
const mib = 128;
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const children = [];
const at = (name) => join(folder, name);

const port = await new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const found = server.address().port;
    server.close(() => resolve(found));
  });
});

function prepare() {
  if (process.getuid() === 0) mkdirSync('/run/sshd', { recursive: true });
  for (const name of ['host', 'user']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)]);
  writeFileSync(at('keys'), readFileSync(at('user.pub')), { mode: 0o600 });
  writeFileSync(at('known'), `[127.0.0.1]:${port} ${readFileSync(at('host.pub'), 'utf8')}`);
  writeFileSync(
    at('sshd_config'),
    `ListenAddress 127.0.0.1\nPort ${port}\nHostKey ${at('host')}\nAuthorizedKeysFile ${at('keys')}\nPidFile none\n` +
      'StrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n',
  );
  writeFileSync(
    at('ssh_config'),
    `Host test\n HostName 127.0.0.1\n Port ${port}\n User ${userInfo().username}\n IdentityFile ${at('user')}\n` +
      ` IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile ${at('known')}\n`,
  );
  const image = Buffer.alloc(mib << 20);
  for (let i = 0; i < mib; i++) randomFillSync(image, i << 20, 1 << 20);
  writeFileSync(at('disk.img'), image);
}

async function start() {
  children.push(spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('sshd_config')], { stdio: 'ignore' }));
  process.env.FARBUS_SSH = `ssh -F ${at('ssh_config')}`;
  await sleep(500);
  const socket = at('nbd.sock');
  const parameters = ['host=127.0.0.1', `port=${port}`, `user=${userInfo().username}`, `path=${at('disk.img')}`];
  const keys = [`identity=${at('user')}`, 'verify-remote-host=false'];
  children.push(
    spawn('nbdkit', ['-f', '-U', socket, 'ssh', ...parameters, ...keys], { stdio: ['ignore', 'ignore', 'inherit'] }),
  );
  for (let i = 0; !existsSync(socket); i++) {
    if (i > 100) throw new Error('nbdkit does not start');
    await sleep(50);
  }
  return {
    nbdkit: await openNbd(`nbd+unix:///?socket=${socket}`),
    sftp: await openSshSftp(`ssh+sftp://test${at('disk.img')}`),
    dd: await openSshDd(`ssh+dd://test${at('disk.img')}`),
  };
}

/** Requests a second: `count` reads of `length` bytes, `depth` under way at once. */
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
  prepare();
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
