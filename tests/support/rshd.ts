/**
 * A private rsh server for a test: openbsd-inetd and in.rshd of rsh-redone on a free loopback port.
 * The only file outside its folder is the user's ~/.rhosts, which is created only if there is none,
 * and removed again.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';
import { freePort } from './nbd-peers.js';
import { descendantsOf } from './sshd.js';
import { tempPath } from './temp.js';
import { accepts } from './accepts.js';

const inetd = '/usr/sbin/inetd';
const rshd = '/usr/sbin/in.rshd';
const rhosts = join(homedir(), '.rhosts');
const startMs = 30_000;

const running = new Set<Rshd>();
afterAll(async () => {
  for (const server of [...running]) await server.stop();
});
process.once('exit', () => {
  for (const server of running) server.killNow();
});

/** The reason why no server can run here; undefined if it can. In CI, throws instead. */
export function cannotRshd(): string | undefined {
  let why: string | undefined;
  if (!existsSync(inetd) || !existsSync(rshd))
    why = 'openbsd-inetd or rsh-redone-server is not installed: run scripts/test-peers.sh';
  else if (process.getuid?.() !== 0) why = 'tests of rsh need root: it uses privileged ports';
  else if (existsSync(rhosts)) why = `${rhosts} exists, and is not changed by a test`;
  if (why !== undefined && process.env['CI']) throw new Error(why);
  if (why !== undefined) console.error(`SKIPPED: ${why}`);
  return why;
}

export class Rshd {
  readonly port: number;
  #child: ChildProcess | undefined;

  constructor(port: number) {
    this.port = port;
  }

  static async start(): Promise<Rshd> {
    const { port } = await freePort();
    return new Rshd(port).start();
  }

  async start(): Promise<this> {
    const user = userInfo().username;
    writeFileSync(rhosts, `127.0.0.1 ${user}\nlocalhost ${user}\n`, { mode: 0o600 });
    const config = tempPath('inetd.conf');
    writeFileSync(config, `127.0.0.1:${this.port} stream tcp nowait root ${rshd} in.rshd\n`);
    // -R raises inetd's limit on connections per minute: it takes many quick calls for a loop.
    const child = spawn(inetd, ['-i', '-R', '100000', config], { stdio: 'ignore' });
    this.#child = child;
    running.add(this);
    for (const end = Date.now() + startMs; ; await sleep(10)) {
      if (child.exitCode !== null) throw new Error('inetd ended at once');
      if (await accepts({ host: '127.0.0.1', port: this.port })) return this;
      if (Date.now() > end) throw new Error('inetd does not listen');
    }
  }

  /** From now on the server refuses all logins. */
  forget(): void {
    rmSync(rhosts, { force: true });
  }

  /** The processes below the server. */
  descendants(): number[] {
    return this.#child?.pid === undefined ? [] : descendantsOf(this.#child.pid);
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    // SIGTERM first, so that login shells can finish properly.
    for (const pid of this.descendants()) kill(pid, 'SIGTERM');
    await sleep(100);
    this.killNow();
    await gone;
  }

  killNow(): void {
    running.delete(this);
    this.forget();
    const child = this.#child;
    this.#child = undefined;
    if (!child?.pid) return;
    for (const pid of [...descendantsOf(child.pid), child.pid]) kill(pid, 'SIGKILL');
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // The process has already ended.
  }
}
