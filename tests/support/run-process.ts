/**
 * `farbus run --bios` in its own process, as a user starts it. Its screen is read by `farbus
 * screenshot`, and keys are typed by `farbus type`.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { farbusHere } from './screen-cli.js';
import { tempFolder } from './temp.js';

const running = new Set<ChildProcess>();
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** Interval between two screenshots, in ms. */
const lookEvery = 200;

export class RunProcess {
  readonly #runtime = tempFolder();
  readonly #child: ChildProcess;
  #errors = '';

  /** @param args options and drives of `farbus run` */
  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, ['bin/farbus.js', 'run', '--bios', ...args], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env, XDG_RUNTIME_DIR: this.#runtime },
    });
    running.add(this.#child);
    this.#child.stderr!.on(
      'data',
      (chunk: Buffer) => (this.#errors = (this.#errors + chunk.toString()).slice(-10_000)),
    );
  }

  /** The text on its screen; '' if it has no screen yet. */
  async screen(): Promise<string> {
    if (this.#child.exitCode !== null) throw new Error(`farbus run ended: ${this.#errors}`);
    const { stdout, stderr, status } = await farbusHere(['screenshot', 'computer', '--text'], this.#runtime);
    if (status !== 0 && !/nothing called|is starting/.test(stderr)) throw new Error(stderr);
    return stdout;
  }

  /** Waits until its screen matches `pattern`. */
  async waitFor(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    for (const end = Date.now() + timeoutMs; ; await sleep(lookEvery)) {
      const text = await this.screen();
      const match = pattern.exec(text);
      if (match) return match;
      if (Date.now() > end) throw new Error(`the screen did not show ${String(pattern)}: ${text}${this.#errors}`);
    }
  }

  /** Types keys (`farbus type --help`). */
  async type(keys: string): Promise<void> {
    const { status, stderr } = await farbusHere(['type', 'computer', keys], this.#runtime);
    if (status !== 0) throw new Error(stderr);
  }

  async stop(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
      await exited;
      clearTimeout(timer);
    }
    running.delete(this.#child);
  }
}
