/**
 * A qemu-nbd of our own: a child process that serves one image on a private unix socket, in a folder that nobody else can
 * look into. It ends by itself when its last client is gone, and so also when this process is killed.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, FarbusError } from '../../base/errors.js';

/** How long it has to end by itself, and after SIGTERM, in ms. */
const endMs = 10_000;
const maxErrors = 2048;
const prefix = 'farbus-image-';

export interface QemuNbdOptions {
  readonly format: string;
  readonly readOnly: boolean;
  /** `file`, or `host_device` for a block device. */
  readonly driver: 'file' | 'host_device';
}

export class QemuNbd {
  readonly socket: string;
  /** Resolves when the process is gone, with how it ended. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  #errors = '';
  #missing = false;

  private constructor(folder: string, child: ChildProcess) {
    this.socket = join(folder, 'nbd.sock');
    this.#child = child;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(0, maxErrors);
    });
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#missing = errnoOf(error) === 'ENOENT';
        if (child.pid === undefined) resolve(`it could not be started (${errnoOf(error) ?? error.message})`);
      });
      child.once('close', (code, signal) => resolve(signal ? `signal ${signal}` : `status ${code}`));
    });
    void this.ended.then(() => rm(folder, { recursive: true, force: true }));
  }

  /** Starts it on the image at `path`. It accepts connections some time later, or ends. */
  static async start(path: string, { format, readOnly, driver }: QemuNbdOptions): Promise<QemuNbd> {
    await removeLeft();
    const folder = await mkdtemp(join(tmpdir(), prefix));
    // By options, so that no part of the path is taken for a protocol or an option.
    const image = `driver=${format},file.driver=${driver},file.filename=${path.replaceAll(',', ',,')}`;
    const args = ['--socket', join(folder, 'nbd.sock'), '--shared', '64', '--discard', 'unmap'];
    if (readOnly) args.push('--read-only');
    const child = spawn('qemu-nbd', [...args, '--image-opts', image], {
      stdio: ['ignore', 'ignore', 'pipe'],
      // Ctrl-C is for us: it has to serve until our requests under way are done.
      detached: true,
    });
    return new QemuNbd(folder, child);
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Why it could not serve `path`, for a person. */
  failure(path: string): FarbusError {
    if (this.#missing) {
      return new FarbusError(
        `${path} is a disk image that is read through qemu-nbd, which is not installed: install it (Debian: qemu-utils)`,
      );
    }
    const said =
      this.#errors
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^qemu-nbd: /, '') ?? '';
    return new FarbusError(`qemu-nbd cannot open ${path}: ${said || 'it ended at once'}; try qemu-img check`);
  }

  /** Waits until it has ended by itself, as it does after its last client; ends it where it does not. */
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

  /** Ends it at once. */
  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL');
    await this.ended;
  }
}

/** Removes the folders of processes that were killed. One that is in use has a socket in it, and stays. */
async function removeLeft(): Promise<void> {
  const names = await readdir(tmpdir()).catch(() => []);
  for (const name of names.filter((one) => one.startsWith(prefix))) {
    const path = join(tmpdir(), name);
    // A moment after it was made a folder is empty too.
    const old = await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs > 60_000,
      () => false,
    );
    if (old) await rmdir(path).catch(() => undefined);
  }
}
