/**
 * A private qemu-nbd: a sandboxed child process that serves one image on a unix socket, in a
 * folder that no other user can access. It ends when its last client disconnects, so also when
 * this process is killed.
 */
import type { ChildProcess } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarbusError } from '../../base/errors.js';
import { byMkdtemp, makeOwnedFolder } from '../../base/owned.node.js';
import { printable } from '../../base/printable.js';
import type { ImageGraph } from './graph.node.js';
import { findProgram, spawnInSandbox } from './sandbox/sandbox.node.js';

/** Time for it to end by itself, and again after SIGTERM, in ms. */
const endMs = 10_000;
/** Length of qemu-nbd's error output that is kept, in characters. */
const maxErrors = 2048;

export interface QemuNbdOptions {
  readonly readOnly: boolean;
  /** Path of the image, for messages. */
  readonly path: string;
}

export class QemuNbd {
  readonly socket: string;
  /** Resolves when the process has ended, with its exit status or signal as text. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #path: string;
  #errors = '';

  private constructor(folder: string, child: ChildProcess, path: string) {
    this.socket = join(folder, 'nbd.sock');
    this.#child = child;
    this.#path = path;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(0, maxErrors);
    });
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => {
        if (child.pid === undefined) resolve(`it could not be started (${error.message})`);
      });
      child.once('close', (code, signal) => resolve(signal ? `signal ${signal}` : `status ${code}`));
    });
    void this.ended.then(() => rm(folder, { recursive: true, force: true }));
  }

  /** Starts qemu-nbd on an image. It accepts connections some time later, or ends. */
  static async start(graph: ImageGraph, { readOnly, path }: QemuNbdOptions): Promise<QemuNbd> {
    const program = qemuProgram('qemu-nbd', path);
    const folder = await makeOwnedFolder(tmpdir(), 'farbus-image-', { before: byMkdtemp });
    const args = ['--socket', join(folder, 'nbd.sock'), '--shared', '64', '--discard', 'unmap'];
    if (readOnly) args.push('--read-only');
    const child = spawnInSandbox(program, [...args, `json:${JSON.stringify(graph.node)}`], {
      files: graph.files,
      socketFolder: folder,
    });
    return new QemuNbd(folder, child, path);
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The error to report if it could not serve the image. */
  failure(): FarbusError {
    return qemuFailure('qemu-nbd', `cannot open ${printable(this.#path)}`, this.#errors, 'try qemu-img check');
  }

  /** Waits until it ends, as it does after its last client; kills it if it does not. */
  async stop(): Promise<void> {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const late = new AbortController();
      const over = await Promise.race([
        this.ended.then(() => true),
        sleep(endMs, false, { signal: late.signal }).catch(() => false),
      ]);
      late.abort();
      if (over) return;
      this.#child.kill(signal);
    }
    await this.ended;
  }

  /** Kills it. */
  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL');
    await this.ended;
  }
}

/**
 * The absolute path of one of QEMU's programs.
 * @throws FarbusError if it is not installed
 */
export function qemuProgram(name: 'qemu-nbd' | 'qemu-img', path: string): string {
  const program = findProgram(name);
  if (program !== undefined) return program;
  throw new FarbusError(
    `${printable(path)} is a disk image, for which ${name} is needed, which is not installed: install it (Debian: qemu-utils)`,
  );
}

/**
 * The error for a program of QEMU that failed, with its last message.
 * @param advice what to do
 */
export function qemuFailure(name: string, what: string, errors: string, advice?: string): FarbusError {
  const last = errors.trim().split('\n').at(-1) ?? '';
  // Its descriptors of our sandbox mean nothing to the user.
  const said = last
    .replace(`${name}: `, '')
    .replace(/^Failed to blk_new_open '.*?}': /, '')
    .replace(/ ?\[\/proc\/self\/fd\/\d+\]/, '');
  const more = advice === undefined ? '' : said.endsWith('?') ? ` If not, ${advice}` : `; ${advice}`;
  return new FarbusError(`${name} ${what}: ${printable(said) || 'it ended at once'}${more}`);
}
