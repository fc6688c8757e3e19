/**
 * Communication between commands: control sockets, their folder, slow lease requests, and files
 * that killed commands leave.
 */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { startHere } from '../../src/app/site/computer.js';
import { readSite } from '../../src/app/config/site.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { farbusFile, type Finished } from './farbus.js';

const MiB = 1 << 20;
const running = new Set<ReturnType<typeof spawn>>();
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** A folder for everything that a command may leave, with a disk in it. */
class Place {
  readonly folder = tempFolder();
  readonly image = join(this.folder, 'd.img');
  readonly env: Record<string, string>;

  constructor(runtime = this.folder) {
    writeFileSync(this.image, new Uint8Array(MiB));
    this.env = { ...process.env, XDG_RUNTIME_DIR: runtime, TMPDIR: this.folder } as Record<string, string>;
  }

  run(...args: string[]): Finished {
    const { status, stdout, stderr } = spawnSync(process.execPath, [farbusFile, ...args], {
      env: this.env,
      encoding: 'utf8',
      timeout: 50_000,
    });
    return { code: status, stdout, stderr };
  }

  /** Starts a command. Resolves when it has printed an address. */
  async start(...args: string[]): Promise<{ child: ReturnType<typeof spawn>; said: () => string }> {
    const child = spawn(process.execPath, [farbusFile, ...args], { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve);
      child.once('exit', () => reject(new Error(said)));
    });
    return { child, said: () => said };
  }

  async until(ready: () => boolean): Promise<void> {
    while (!ready()) await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function killed(child: ReturnType<typeof spawn>): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

describe('Sockets of commands', () => {
  it('report a missing folder', () => {
    const place = new Place();
    const path = join(place.folder, 'none', 'd.sock');
    const why = `farbus: cannot listen on ${path}: there is no such folder: make it, or choose another path\n`;
    const serve = place.run('serve', '--listen', `nbd+unix:///?socket=${path}`, place.image);
    const attach = place.run('attach', place.image, '--socket', path);
    expect([serve, attach]).toEqual(Array(2).fill({ code: 1, stdout: '', stderr: why }));
  });

  it('report a path that is too long, in every command', async () => {
    const long = join(tempFolder(), 'x'.repeat(90));
    mkdirSync(long);
    const place = new Place(long);
    const too =
      /^farbus: (.*: )?the path of a unix socket has at most 107 bytes, and \/.* has \d+: choose a shorter one\n/;
    const path = join(long, 'a-socket.sock');
    const site = join(place.folder, 'site.yaml');
    writeFileSync(site, `computers: { c: { role: client, system: { kernel: ${place.image} } } }`);
    const uri = `nbd+unix:///?socket=${path}`;
    for (const args of [
      ['serve', '--listen', uri, place.image],
      ['attach', place.image, '--socket', path],
      ['info', uri, '--reconnect', '0'],
      ['status', '--socket', path],
      ['up', site],
    ]) {
      const { code, stderr } = place.run(...args);
      expect(stderr, args[0]).toMatch(too);
      expect(code, args[0]).toBe(2);
    }
    // A server works without its control socket, and says what that means.
    const { child, said } = await place.start('serve', '--listen', 'nbd://127.0.0.1:0', place.image);
    expect(said()).toMatch(/^farbus: warning: farbus status will not find this server: the path of a unix socket has/);
    await killed(child);
  });

  it('are not looked for in a folder that others can enter', async () => {
    const place = new Place();
    const folder = join(place.folder, 'farbus');
    const why = `cannot use the folder of control sockets ${folder}: others have access to it: remove it`;
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    for (const args of [['status'], ['down'], ['lease'], ['console', 'c'], ['screenshot', 'c', '--text'], ['logs']]) {
      const { code, stdout, stderr } = place.run(...args);
      expect({ args, code, stdout }).toEqual({ args, code: 1, stdout: '' });
      expect(stderr.split('\n'), args[0]).toEqual([expect.stringContaining(why), '']);
    }
    const { child, said } = await place.start('serve', '--listen', 'nbd://127.0.0.1:0', place.image);
    expect(said()).toContain(`farbus: warning: farbus status will not find this server: ${why}`);
    await killed(child);
  });

  it('are named by farbus status, and by an error that asks for one', async () => {
    const place = new Place();
    const config = join(place.folder, 'serve.yaml');
    writeFileSync(
      config,
      `listen: ['nbd://127.0.0.1:0']\nexports: [{ name: d, source: ${place.image}, read-only: true }]`,
    );
    const one = await place.start('serve', '--config', config);
    const other = await place.start('serve', '--config', config);
    const [first, second] = [one.child.pid!, other.child.pid!];
    const files = [`serve-server.${first}.sock`, `serve-server-2.${second}.sock`];
    const sockets = files.map((file) => join(place.folder, 'farbus', file));
    const { stdout } = place.run('status');
    for (const socket of sockets) expect(stdout).toContain(`  control      ${socket}\n`);
    expect(place.run('status', '--reload')).toEqual({
      code: 1,
      stdout: '',
      stderr: `farbus: --reload is for one server: name it, one of server, server-2\n`,
    });
    expect(place.run('status', '--reload', '--socket', sockets[0]!).code).toBe(0);
    expect(place.run('status', 'server-2', '--reload')).toMatchObject({ code: 0, stderr: '' });
    await killed(one.child);
    await killed(other.child);
  });
});

/** A plugin for nbdkit (nbdkit-sh-plugin(3)) whose writes wait for a file in the folder D. */
const gated = `case "$1" in
  get_size) echo 1M ;;
  pread) head -c "$3" /dev/zero ;;
  can_write|can_flush) exit 0 ;;
  flush) ;;
  pwrite) cat > /dev/null; touch "$D/began"; while [ -d "$D" -a ! -e "$D/go" ]; do sleep 0.05; done; touch "$D/over" ;;
  *) exit 2 ;;
esac
`;

describe.skipIf(missing('nbdkit') || missing('qemu-io'))('farbus status --take', () => {
  /**
   * A server with one writer that has a write in flight, and a waiting command that takes over the
   * right to write.
   */
  async function waiting() {
    const place = new Place();
    const has = (name: string): boolean => readdirSync(place.folder).includes(name);
    const begin = (program: string, args: string[]): ReturnType<typeof spawn> => {
      const child = spawn(program, args, {
        env: { ...place.env, D: place.folder },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      running.add(child);
      return child;
    };
    const source = join(place.folder, 'source.sock');
    const plugin = join(place.folder, 'plugin');
    writeFileSync(plugin, `#!/bin/sh\n${gated}`, { mode: 0o755 });
    const kit = begin('nbdkit', ['-f', '-U', source, 'sh', plugin]);
    await place.until(() => has('source.sock'));
    const uri = `nbd+unix:///?socket=${join(place.folder, 'nbd.sock')}`;
    const { child } = await place.start('serve', '--one-writer', '--listen', uri, `d=nbd+unix:///?socket=${source}`);
    const client = begin('qemu-io', ['-f', 'raw', '-c', 'write 0 512', '-c', 'sleep 60000', uri]);
    await place.until(() => has('began'));
    const take = begin(process.execPath, [farbusFile, 'status', '--take', 'd']);
    const said = await new Promise<string>((resolve) => take.stderr!.once('data', (text) => resolve(String(text))));
    expect(said).toMatch(/^farbus: waiting for the writes of connection \d+ in flight \(1\)\n/);
    return {
      take,
      writer: () => (JSON.parse(place.run('status', '--json').stdout)[0].exports[0] as { writer: string }).writer,
      finish: () => (writeFileSync(join(place.folder, 'go'), ''), place.until(() => has('over'))),
      end: () => Promise.all([client, child, kit].map(killed)),
    };
  }

  it('reports what it waits for, and then succeeds', async () => {
    const { take, writer, finish, end } = await waiting();
    const ended = new Promise((resolve) => take.once('exit', resolve));
    await finish();
    expect(await ended).toBe(0);
    expect(writer()).toBe('');
    await end();
  });

  it('has no later effect once it has failed', async () => {
    const { take, writer, finish, end } = await waiting();
    const before = writer();
    expect(before).not.toBe('');
    await killed(take);
    await finish();
    expect(writer()).toBe(before);
    await end();
  });
});

describe('farbus lease', () => {
  it('tells a missing device from one without a lease', async () => {
    const none = (): void => undefined;
    const site = readSite(
      'site.yaml',
      `segments: { lan: {} }
computers: { store: { role: server, network: lan, system: { kernel: ${farbusFile} }, devices: { disk: { source: x }, own: { source: y, local: true } } } }`,
      { name: 'site', checkFile: none },
    );
    const events = { state: none, output: none, log: none, leases: none };
    const store = startHere(site.computers[0]!, undefined, events, { traceFolder: undefined });
    const work = { signal: new AbortController().signal, waitsFor: none };
    await expect(store.moveLease('store/dsk', 'local', work)).rejects.toThrow(
      'there is no device "store/dsk" in this site: give one of store/disk, store/own',
    );
    await expect(store.moveLease('store/disk', 'local', work)).rejects.toThrow(
      'store/disk has no lease: it is not given to its own operating system',
    );
    await store.stop();
  });
});

describe('Files that a killed command has left', () => {
  it('are removed by the next command: the folder of an attached disk, and control sockets', async () => {
    const place = new Place();
    const first = await place.start('attach', place.image);
    const left = (): string[] => readdirSync(place.folder).filter((name) => name.startsWith('farbus-attach-'));
    const [folder] = left();
    // Files of running processes are left alone.
    expect(place.run('attach', place.image, '--read-only', '--', 'test', '-S', '{socket}').code).toBe(0);
    expect(left()).toEqual([folder]);
    await killed(first.child);
    const serve = await place.start('serve', '--listen', 'nbd://127.0.0.1:0', place.image);
    const socket = `serve-server.${serve.child.pid}.sock`;
    await killed(serve.child);
    const { child } = await place.start('attach', place.image);
    expect(left()).toHaveLength(1);
    expect(left()).not.toContain(folder);
    await killed(child);
    const next = await place.start('serve', '--listen', 'nbd://127.0.0.1:0', place.image);
    expect(readdirSync(join(place.folder, 'farbus'))).not.toContain(socket);
    await killed(next.child);
  });
});

describe('A temporary file', () => {
  it('of a copy has no predictable name at which a link could wait', () => {
    const place = new Place();
    writeFileSync(place.image, Buffer.alloc(16 * MiB, 1));
    const precious = join(place.folder, 'precious');
    writeFileSync(precious, 'precious');
    symlinkSync(precious, join(place.folder, '.out.img.farbus-copy.new'));
    const out = join(place.folder, 'out.img');
    const { code, stderr } = place.run('copy', place.image, out);
    expect(code, stderr).toBe(0);
    expect(readFileSync(precious, 'utf8')).toBe('precious');
    expect(readFileSync(out).equals(readFileSync(place.image))).toBe(true);
  });
});
