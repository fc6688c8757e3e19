/** Runs `farbus` with folders of its own for control sockets, logs and temporary files. */
import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { farbusFile, type Finished } from '../interop/farbus.js';
import { tempFolder } from './temp.js';

const children = new Set<ChildProcess>();
const detached = new Set<number>();
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  for (const pid of detached) if (isFarbus(pid)) process.kill(pid, 'SIGKILL');
});

function isFarbus(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  /** Its stderr. */
  readonly said: () => string;
}

/** An entry of `farbus ps --json`. */
export interface Listed {
  readonly name: string;
  readonly kind: string;
  readonly pid: number;
  readonly state: string;
  readonly uses: readonly string[];
  readonly reach: readonly string[];
}

/** A place in which nothing else of Farbus runs, with a disk. */
export class Processes {
  readonly folder = tempFolder();
  readonly image = join(this.folder, 'd.img');
  readonly env = {
    ...process.env,
    XDG_RUNTIME_DIR: this.folder,
    XDG_STATE_HOME: join(this.folder, 'state'),
    TMPDIR: this.folder,
  } as Record<string, string>;

  constructor() {
    writeFileSync(this.image, '');
    truncateSync(this.image, 1 << 20);
  }

  spawn(...args: string[]): ChildProcess & { stdout: NodeJS.ReadableStream; stderr: NodeJS.ReadableStream } {
    const child = spawn(process.execPath, [farbusFile, ...args], { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    children.add(child);
    return child;
  }

  /** Like spawn, with a stdin that is open until the test ends it. */
  spawnPiped(...args: string[]): ChildProcessWithoutNullStreams {
    const child = spawn(process.execPath, [farbusFile, ...args], { env: this.env });
    children.add(child);
    return child;
  }

  /** Runs a command to its end. Servers of this process can answer it meanwhile. */
  farbus(...args: string[]): Promise<Finished> {
    const child = this.spawn(...args);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
  }

  /** Starts a command. Resolves when it has printed an address or has ended. */
  async start(...args: string[]): Promise<Running> {
    const child = this.spawn(...args);
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    await Promise.race([new Promise((resolve) => child.stdout.once('data', resolve)), ended]);
    return { child, ended, said: () => said };
  }

  serve(...args: string[]): Promise<Running> {
    return this.start('serve', '--listen', 'nbd://127.0.0.1:0', 'memory:1M', ...args);
  }

  async list(): Promise<Listed[]> {
    const all = JSON.parse((await this.farbus('ps', '--json')).stdout) as Listed[];
    // Detached processes end with the test file, too.
    for (const { pid } of all) if (pid !== process.pid) detached.add(pid);
    return all;
  }
}
