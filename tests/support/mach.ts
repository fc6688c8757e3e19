/** GNU Mach as a guest: its CD (tests/guests/mach), and the commands of its one task. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { RunProcess } from './run-process.js';

const commandMs = 100_000;

/** Programs that {@link makeMachDisc} needs (build.sh says why). */
export const machTools = [process.arch === 'x64' ? 'gcc' : 'i686-linux-gnu-gcc', 'grub-mkimage', 'xorriso'];

/** Makes the CD at `path`: Debian's kernel as it is, and the task. */
export function makeMachDisc(path: string): void {
  const script = fileURLToPath(new URL('../guests/mach/make.mjs', import.meta.url));
  execFileSync(process.execPath, [script, path], { stdio: 'pipe' });
}

/** A computer that boots such a CD. */
export class Mach {
  readonly #computer: RunProcess;
  #prompt = 1;

  /** @param drives As `farbus run` takes them; the CD is one of them. */
  constructor(drives: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#computer = new RunProcess(['--memory', '64M', ...drives.flatMap((drive) => ['--drive', drive])], env);
  }

  /** Waits until its task asks for a command. */
  async ready(): Promise<void> {
    await this.#computer.waitFor(/^1> *$/m, 300_000);
  }

  /** What the task answers to a command, without the line's end. */
  async command(line: string): Promise<string> {
    await this.begin(line);
    return this.end();
  }

  /** Types a command and does not wait for its answer. */
  begin(line: string): Promise<void> {
    return this.#computer.type(`${line}<enter>`);
  }

  /** The answer of the command that was begun. */
  async end(): Promise<string> {
    const [from, to] = [this.#prompt, ++this.#prompt];
    const [, answer] = await this.#computer.waitFor(new RegExp(`^${from}> .*\n([^]*?)^${to}> *$`, 'm'), commandMs);
    return answer!.trim();
  }

  stop(): Promise<void> {
    return this.#computer.stop();
  }
}

/** What `fill` writes (pattern in task.c). */
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

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
