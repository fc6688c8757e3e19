/**
 * A whole Ceph on loopback for benchmarks: one monitor, one manager and one OSD in memory, with a
 * pool `rbd`. It writes nothing outside of its folder.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

/** @returns a port of 127.0.0.1 that is free now */
export async function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Starts it. `run(program, ...args)` runs a program of Ceph on it; `stop()` ends it. */
export async function startCeph(folder) {
  const conf = join(folder, 'ceph.conf');
  const [fsid, osd] = [randomUUID(), randomUUID()];
  const address = `v2:127.0.0.1:${await freePort()}`;
  for (const name of ['mon', 'mgr', 'osd']) mkdirSync(join(folder, name));
  const lines = [
    '[global]',
    `fsid = ${fsid}`,
    `mon host = [${address}]`,
    'public addr = 127.0.0.1',
    ...['cluster', 'service', 'client'].map((what) => `auth ${what} required = none`),
    'osd pool default size = 1',
    'osd pool default min size = 1',
    'osd crush chooseleaf type = 0',
    'mon allow pool size one = true',
    ...['mon', 'mgr', 'osd'].map((what) => `${what} data = ${folder}/${what}`),
    'osd objectstore = memstore',
    'memstore device bytes = 2147483648',
    `run dir = ${folder}`,
    `admin socket = ${folder}/$name.$pid.asok`,
    `pid file = ${folder}/$name.pid`,
    `log file = ${folder}/$name.log`,
    '[client]',
    'pid file =',
  ];
  writeFileSync(conf, `${lines.join('\n')}\n`);
  const run = (program, ...args) =>
    execFileSync(program, ['-c', conf, ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] }).toString();
  const stop = () => {
    for (const name of readdirSync(folder).filter((one) => one.endsWith('.pid'))) {
      const pid = Number(readFileSync(join(folder, name), 'utf8'));
      try {
        if (pid > 0) process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended already.
      }
    }
  };
  try {
    execFileSync('monmaptool', ['--create', '--fsid', fsid, '--addv', 'a', `[${address}]`, 'monmap'], {
      cwd: folder,
      stdio: 'ignore',
    });
    run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', 'monmap');
    run('ceph-mon', '-i', 'a', '--public-addr', address);
    run('ceph-mgr', '-i', 'x');
    run('ceph', 'osd', 'new', osd, '0');
    run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd);
    run('ceph-osd', '-i', '0');
    run('ceph', 'osd', 'pool', 'create', 'rbd', '8', '8');
    run('rbd', 'pool', 'init', 'rbd');
  } catch (error) {
    stop();
    throw error;
  }
  return { conf, run, stop };
}
