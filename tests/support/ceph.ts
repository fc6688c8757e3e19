/**
 * A whole Ceph on loopback for tests: one monitor, one manager and one OSD in memory, with a pool
 * `rbd`. It starts in some 7 s, and writes nothing outside of its folder.
 */
import { execFileSync, type ExecFileSyncOptions } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { tempFolder } from './temp.js';

export class Ceph {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async start(): Promise<Ceph> {
    const ceph = new Ceph(tempFolder());
    try {
      ceph.#start(await freePort());
    } catch (error) {
      ceph.stop();
      throw error;
    }
    return ceph;
  }

  /** Path of its ceph.conf. */
  get conf(): string {
    return join(this.folder, 'ceph.conf');
  }

  /** Runs a program of Ceph (ceph, rbd, …) on it, and returns what it prints. */
  run(program: string, ...args: readonly string[]): string {
    const options: ExecFileSyncOptions = { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 };
    return execFileSync(program, ['-c', this.conf, ...args], options).toString();
  }

  /** Process id of a daemon: 'mon.a', 'mgr.x' or 'osd.0'. */
  pid(daemon: string): number {
    return Number(readFileSync(join(this.folder, `${daemon}.pid`), 'utf8'));
  }

  stop(): void {
    for (const name of readdirSync(this.folder).filter((one) => one.endsWith('.pid'))) {
      try {
        process.kill(this.pid(name.slice(0, -4)), 'SIGKILL');
      } catch {
        // It has ended already.
      }
    }
  }

  #start(port: number): void {
    const osd = randomUUID();
    const fsid = randomUUID();
    for (const name of ['mon', 'mgr', 'osd']) mkdirSync(join(this.folder, name));
    writeFileSync(this.conf, configuration(this.folder, fsid, port));
    const address = `v2:127.0.0.1:${port}`;
    execFileSync('monmaptool', ['--create', '--fsid', fsid, '--addv', 'a', `[${address}]`, 'monmap'], {
      cwd: this.folder,
      stdio: 'ignore',
    });
    this.run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', 'monmap');
    this.run('ceph-mon', '-i', 'a', '--public-addr', address);
    this.run('ceph-mgr', '-i', 'x');
    this.run('ceph', 'osd', 'new', osd, '0');
    // With another UUID than the one it was announced with, the OSD stays down without a word.
    this.run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd);
    this.run('ceph-osd', '-i', '0');
    this.run('ceph', 'osd', 'pool', 'create', 'rbd', '8', '8');
    this.run('rbd', 'pool', 'init', 'rbd');
  }
}

function configuration(folder: string, fsid: string, port: number): string {
  return `[global]
fsid = ${fsid}
mon host = [v2:127.0.0.1:${port}]
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = ${folder}/mon
mgr data = ${folder}/mgr
osd data = ${folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
run dir = ${folder}
admin socket = ${folder}/$name.$pid.asok
pid file = ${folder}/$name.pid
log file = ${folder}/$name.log
[client]
pid file =
`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
