/** GNU Mach as a guest: its CD (tests/guests/mach), and the commands of its only task. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { RunProcess } from './run-process.js';

const commandMs = 100_000;

/** Programs that {@link makeMachDisc} needs (see build.sh). */
export const machTools = [process.arch === 'x64' ? 'gcc' : 'i686-linux-gnu-gcc', 'grub-mkimage', 'xorriso'];

/**
 * Makes the CD at `path`: Debian's unmodified kernel, and the task.
 * @param argument of the kernel; default: none
 */
export function makeMachDisc(path: string, argument = ''): void {
  const script = fileURLToPath(new URL('../guests/mach/make.mjs', import.meta.url));
  execFileSync(process.execPath, [script, path, argument], { stdio: 'pipe' });
}

/** A computer that boots such a CD. */
export class Mach {
  readonly #computer: RunProcess;
  #prompt = 1;

  /** @param drives drives in the form that `farbus run` takes; one of them is the CD */
  constructor(drives: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#computer = new RunProcess(['--memory', '64M', ...drives.flatMap((drive) => ['--drive', drive])], env);
  }

  /** Waits until the task prompts for a command. */
  async ready(): Promise<void> {
    await this.#computer.waitFor(/^1> *$/m, 300_000);
  }

  /** Sends a command. Resolves with the task's answer, without the line end. */
  async command(line: string): Promise<string> {
    await this.begin(line);
    return this.end();
  }

  /** Types a command without waiting for its answer. */
  begin(line: string): Promise<void> {
    return this.#computer.type(`${line}<enter>`);
  }

  /** Waits for the answer to the command that {@link begin} typed. */
  async end(): Promise<string> {
    const [from, to] = [this.#prompt, ++this.#prompt];
    const [, answer] = await this.#computer.waitFor(new RegExp(`^${from}> .*\n([^]*?)^${to}> *$`, 'm'), commandMs);
    return answer!.trim();
  }

  stop(): Promise<void> {
    return this.#computer.stop();
  }
}

/** The data that the task's `fill` command writes (`pattern` in task.c). */
export function machPattern(first: number, count: number, seed: number): Buffer {
  const bytes = Buffer.alloc(count * 512);
  for (let sector = 0; sector < count; sector++) {
    let value = seed + Math.imul(first + sector, 2654435761);
    for (let i = 0; i < 512; i++) {
      value = (Math.imul(value, 1664525) + 1013904223) | 0;
      bytes[sector * 512 + i] = value >>> 24;
    }
  }
  return bytes;
}
