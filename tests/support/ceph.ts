/**
 * A whole Ceph on loopback for tests: one monitor, one manager and one OSD in memory, with a pool
 * `rbd`; and, if asked for, its gateway for S3. It starts in some 7 s, and writes nothing outside
 * of its folder.
 */
import { execFileSync, spawn, type ChildProcess, type ExecFileSyncOptions } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { S3Keys } from '../../src/storage/http/s3/settings.node.js';
import { tempFolder } from './temp.js';

export class Ceph {
  readonly folder: string;
  #objectGateway: ChildProcess | undefined;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** @param keys true if clients and daemons must prove who they are (cephx) */
  static async start({ keys = false } = {}): Promise<Ceph> {
    const ceph = new Ceph(tempFolder());
    try {
      ceph.#start(await freePort(), keys);
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

  /**
   * Starts Ceph's gateway for objects (radosgw), with one user, and returns its URL. It checks
   * signatures.
   */
  async startObjectGateway({ accessKeyId, secretAccessKey }: S3Keys): Promise<string> {
    const endpoint = `127.0.0.1:${await freePort()}`;
    const gateway = spawn(
      'radosgw',
      [
        ...['-c', this.conf, '-n', 'client.admin', '-f', `--rgw-data=${this.folder}`, '--rgw-run-sync-thread=false'],
        // Its own default, to encrypt this connection, is impossible without keys.
        ...[`--rgw-frontends=beast endpoint=${endpoint}`, '--ms-mon-client-mode=crc', '--rgw-thread-pool-size=16'],
      ],
      { cwd: this.folder, stdio: 'ignore' },
    );
    this.#objectGateway = gateway;
    const url = `http://${endpoint}`;
    while (!(await fetch(url).catch(() => undefined))) {
      if (gateway.exitCode !== null) throw new Error(`radosgw ends with status ${gateway.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const keys = ['--access-key', accessKeyId, '--secret-key', secretAccessKey];
    this.run('radosgw-admin', 'user', 'create', '--uid', 'test', '--display-name', 'Test', ...keys);
    return url;
  }

  stop(): void {
    this.#objectGateway?.kill('SIGKILL');
    for (const name of readdirSync(this.folder).filter((one) => one.endsWith('.pid'))) {
      try {
        process.kill(this.pid(name.slice(0, -4)), 'SIGKILL');
      } catch {
        // It has ended already.
      }
    }
  }

  /** Makes a user, and returns the path of its keyring. */
  addUser(name: string, ...caps: readonly string[]): string {
    const keyring = join(this.folder, `${name}.keyring`);
    this.run('ceph', 'auth', 'get-or-create', name, ...caps, '-o', keyring);
    return keyring;
  }

  #start(port: number, keys: boolean): void {
    const osd = randomUUID();
    const fsid = randomUUID();
    for (const name of ['mon', 'mgr', 'osd']) mkdirSync(join(this.folder, name));
    writeFileSync(this.conf, configuration(this.folder, fsid, port, keys));
    const keyring = join(this.folder, 'keyring');
    if (keys) {
      const make = (...args: string[]): unknown =>
        execFileSync('ceph-authtool', [keyring, ...args], { stdio: 'ignore' });
      make('--create-keyring', '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *');
      const all = ['mon', 'osd', 'mgr'].flatMap((one) => ['--cap', one, 'allow *']);
      make('--gen-key', '-n', 'client.admin', ...all);
    }
    const address = `v2:127.0.0.1:${port}`;
    execFileSync('monmaptool', ['--create', '--fsid', fsid, '--addv', 'a', `[${address}]`, 'monmap'], {
      cwd: this.folder,
      stdio: 'ignore',
    });
    this.run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', 'monmap', ...(keys ? ['--keyring', keyring] : []));
    this.run('ceph-mon', '-i', 'a', '--public-addr', address);
    const caps = ['mon', 'allow *', 'osd', 'allow *', 'mgr', 'allow *'];
    if (keys) renameSync(this.addUser('mgr.x', ...caps), join(this.folder, 'mgr', 'keyring'));
    this.run('ceph-mgr', '-i', 'x');
    this.run('ceph', 'osd', 'new', osd, '0');
    if (keys) renameSync(this.addUser('osd.0', ...caps), join(this.folder, 'osd', 'keyring'));
    // With another UUID than the one it was announced with, the OSD stays down without a word.
    this.run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd);
    this.run('ceph-osd', '-i', '0');
    this.run('ceph', 'osd', 'pool', 'create', 'rbd', '8', '8');
    this.run('rbd', 'pool', 'init', 'rbd');
  }
}

function configuration(folder: string, fsid: string, port: number, keys: boolean): string {
  const auth = keys ? 'cephx' : 'none';
  return `[global]
fsid = ${fsid}
mon host = [v2:127.0.0.1:${port}]
public addr = 127.0.0.1
auth cluster required = ${auth}
auth service required = ${auth}
auth client required = ${auth}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
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
${keys ? `keyring = ${folder}/keyring` : ''}
`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
