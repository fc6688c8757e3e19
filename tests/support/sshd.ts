/**
 * A private OpenSSH server for a test: on a free loopback port, with its own keys in a temporary
 * folder, and with an ssh configuration that names it "test". It ends with the test file.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';
import { freePort } from './nbd-peers.js';
import { tempFolder } from './temp.js';
import { accepts } from './accepts.js';

const program = '/usr/sbin/sshd';
const startMs = 30_000;

const running = new Set<Sshd>();
afterAll(async () => {
  for (const server of [...running]) await server.stop();
});
process.once('exit', () => {
  for (const server of running) server.killNow();
});

export interface SshdOptions {
  /** Lines for sshd_config. They come first, because sshd uses the first value of each option. */
  readonly config?: readonly string[];
  /**
   * Environment of sessions. HOME is the server's own folder, so that the user's shell startup
   * files are not part of the test.
   */
  readonly env?: Readonly<Record<string, string>>;
  /** True: no SFTP subsystem. */
  readonly noSftp?: boolean;
}

/** The reason why no server can run here; undefined if it can. In CI, throws instead. */
export function cannotSshd(): string | undefined {
  let why: string | undefined;
  if (!existsSync(program)) why = 'openssh-server is not installed: run scripts/test-peers.sh';
  else if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  if (why === undefined && !existsSync('/run/sshd') && process.getuid?.() === 0) why = '/run/sshd is missing';
  if (why !== undefined && process.env['CI']) throw new Error(why);
  if (why !== undefined) console.error(`SKIPPED: ${why}`);
  return why;
}

export class Sshd {
  readonly folder = tempFolder();
  readonly port: number;
  /** The ssh configuration for clients: `Host test`. */
  readonly clientConfig: string;
  readonly #options: SshdOptions;
  #child: ChildProcess | undefined;
  #output = '';

  constructor(port: number, options: SshdOptions) {
    this.port = port;
    this.#options = options;
    this.clientConfig = join(this.folder, 'ssh_config');
  }

  static async start(options: SshdOptions = {}): Promise<Sshd> {
    const { port } = await freePort();
    const server = new Sshd(port, options);
    server.#prepare();
    return server.start();
  }

  /** The value of FARBUS_SSH for this server. */
  get ssh(): string {
    return `ssh -F ${this.clientConfig}`;
  }

  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  /** The path of a file in its folder. */
  file(name: string): string {
    return join(this.folder, name);
  }

  async start(): Promise<this> {
    const child = spawn(program, ['-D', '-e', '-f', this.file('sshd_config')], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    running.add(this);
    const take = (bytes: Buffer): void => {
      this.#output = (this.#output + bytes.toString()).slice(-65536);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    for (const end = Date.now() + startMs; ; await sleep(10)) {
      if (child.exitCode !== null) throw new Error(`sshd ended at once: ${this.#output}`);
      if (await accepts({ host: '127.0.0.1', port: this.port })) return this;
      if (Date.now() > end) throw new Error(`sshd does not listen: ${this.#output}`);
    }
  }

  /** The processes below the server: those of its connections, the script's loop and its dd. */
  descendants(): number[] {
    return this.#child?.pid === undefined ? [] : descendantsOf(this.#child.pid);
  }

  /** Kills the listener and every connection at once, like a crash of the computer. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    running.delete(this);
    if (!child?.pid) return;
    const all = descendantsOf(child.pid);
    const gone = child.exitCode !== null ? Promise.resolve() : new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    for (const pid of all) killQuietly(pid);
    await gone;
  }

  killNow(): void {
    if (!this.#child?.pid) return;
    for (const pid of [...descendantsOf(this.#child.pid), this.#child.pid]) killQuietly(pid);
  }

  /** Gives the server a new host key, unknown to clients, from the next start on. */
  newHostKey(): void {
    for (const name of ['host', 'host.pub']) rmSync(this.file(name));
    keygen(this.file('host'));
  }

  #prepare(): void {
    keygen(this.file('host'));
    keygen(this.file('user'));
    writeFileSync(this.file('authorized_keys'), readFileSync(this.file('user.pub')), { mode: 0o600 });
    const hostKey = readFileSync(this.file('host.pub'), 'utf8').trim();
    writeFileSync(this.file('known_hosts'), `[127.0.0.1]:${this.port} ${hostKey}\n`);
    const { config = [], env = {}, noSftp } = this.#options;
    const home = this.file('home');
    mkdirSync(home, { recursive: true });
    const settings = Object.entries({ HOME: home, ...env }).map(([name, value]) => `${name}=${value}`);
    writeFileSync(
      this.file('sshd_config'),
      [
        ...config,
        `SetEnv ${settings.join(' ')}`,
        `ListenAddress 127.0.0.1`,
        `Port ${this.port}`,
        `HostKey ${this.file('host')}`,
        `AuthorizedKeysFile ${this.file('authorized_keys')}`,
        `PidFile none`,
        'StrictModes no',
        'UsePAM no',
        'PasswordAuthentication no',
        'KbdInteractiveAuthentication no',
        'PermitRootLogin yes',
        'MaxStartups 100',
        ...(noSftp ? [] : ['Subsystem sftp /usr/lib/openssh/sftp-server']),
        '',
      ].join('\n'),
    );
    writeFileSync(
      this.clientConfig,
      [
        'Host test',
        '  HostName 127.0.0.1',
        `  Port ${this.port}`,
        `  User ${userInfo().username}`,
        `  IdentityFile ${this.file('user')}`,
        '  IdentitiesOnly yes',
        '  IdentityAgent none',
        `  UserKnownHostsFile ${this.file('known_hosts')}`,
        '  GlobalKnownHostsFile none',
        '  StrictHostKeyChecking yes',
        '',
      ].join('\n'),
    );
  }
}

function keygen(path: string): void {
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', path]);
  chmodSync(path, 0o600);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // The process has already ended.
  }
}

/** All processes below `pid`, found in the process list. */
export function descendantsOf(pid: number): number[] {
  const children = new Map<number, number[]>();
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=', '-o', 'ppid='], { encoding: 'utf8' });
  for (const line of stdout.trim().split('\n')) {
    const [child = 0, parent = 0] = line.trim().split(/\s+/).map(Number);
    children.set(parent, [...(children.get(parent) ?? []), child]);
  }
  const all: number[] = [];
  for (const next = [pid]; next.length > 0;) {
    for (const child of children.get(next.pop()!) ?? []) {
      all.push(child);
      next.push(child);
    }
  }
  return all;
}

/** Writes a program for a test: a shell script. */
export function writeScript(path: string, text: string): string {
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return path;
}
