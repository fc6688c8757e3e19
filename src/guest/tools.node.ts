/**
 * Runs programs of the operating system for tasks that no library here does, with a time limit and
 * one-line errors if one is missing or fails.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';

/** The Debian package of each program. */
const packages = {
  zstd: 'zstd',
  gpgv: 'gpgv',
  'mkfs.ext4': 'e2fsprogs',
  debugfs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'mkfs.vfat': 'dosfstools',
  'fsck.vfat': 'dosfstools',
  mcopy: 'mtools',
  'grub-mkimage': 'grub-common',
} as const;

/** Folders of administrators' programs, which are not on a user's PATH in Debian. */
const administration = ['/usr/sbin', '/sbin'];

function searchPath(): string {
  return [process.env['PATH'] ?? '', ...administration].join(delimiter);
}

/** Name of a program that this file can run. */
export type Tool = keyof typeof packages;

/** Time limit in ms. The programs take seconds; one that takes minutes has hung. */
const defaultTimeoutMs = 180_000;
/** Length of a program's error output that is kept, in characters. */
const maxErrorText = 4096;

/** How to start a program that is not on the PATH. */
export interface Program {
  readonly file: string;
  /** Arguments before those of the caller. */
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export interface ToolOptions {
  /** Default: the program of this name on the PATH. */
  readonly program?: Program | undefined;
  /** Bytes for standard input. It is closed without data if absent. */
  readonly input?: Uint8Array;
  /** Maximum output in bytes; a program that writes more is killed. */
  readonly maxOutput?: number;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** The exit status of a program, its standard output, and the first bytes of its error output. */
export interface ToolResult {
  readonly status: number;
  readonly output: Uint8Array;
  readonly errors: string;
}

/**
 * Each program has its own session. So Ctrl-C in the terminal signals only this process, which
 * kills the program, and the program prints no message about it.
 */
const detached = true;

const running = new Set<ChildProcess>();
process.once('exit', () => running.forEach(kill));

/** Kills a program and its children. */
function kill(child: ChildProcess): void {
  try {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has already ended.
  }
}

/** True if the program is on the PATH or in a folder of administrators' programs. */
export function hasTool(tool: Tool): boolean {
  return isOnPath(tool);
}

function isOnPath(name: string): boolean {
  return searchPath()
    .split(delimiter)
    .some((folder) => {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return folder !== '';
      } catch {
        return false;
      }
    });
}

/** @throws FarbusError that names the packages to install if a program is missing */
export function needTools(...tools: readonly Tool[]): void {
  const missing = tools.filter((tool) => !hasTool(tool));
  if (missing.length === 0) return;
  const needed = [...new Set(missing.map((tool) => packages[tool]))];
  const install = isOnPath('apt-get')
    ? `run "sudo apt-get install ${needed.join(' ')}"`
    : `install ${needed.join(' and ')} (these are the names in Debian)`;
  throw new FarbusError(`${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not installed: ${install}`);
}

/**
 * Runs a program until it ends.
 * @returns Its exit status, which the caller must check, and its output.
 * @throws FarbusError if the program is missing, is killed by a signal, takes too long or writes
 * too much
 */
export async function runTool(tool: Tool, args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  const { program } = options;
  if (program === undefined) needTools(tool);
  const child = spawn(program?.file ?? tool, [...(program?.args ?? []), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, PATH: searchPath(), ...program?.environment },
    detached,
  });
  const running = watch(tool, child, options);
  const chunks: Uint8Array[] = [];
  let total = 0;
  let tooMuch = false;
  child.stdout.on('data', (chunk: Buffer) => {
    total += chunk.length;
    tooMuch = total > (options.maxOutput ?? Infinity);
    if (tooMuch) kill(child);
    else chunks.push(chunk);
  });
  // A program that ends early breaks this pipe; its status tells why.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input);
  const { status, errors } = await running.catch((error: unknown) => {
    if (tooMuch) throw new FarbusError(`${tool} gave more than ${options.maxOutput} bytes: its input is damaged`);
    throw error;
  });
  return { status, errors, output: Buffer.concat(chunks) };
}

/** Waits for the end of a child process, and kills it after the time limit. */
async function watch(
  tool: Tool,
  child: ChildProcess,
  options: ToolOptions,
): Promise<{ status: number; errors: string }> {
  let errors = '';
  running.add(child);
  child.stderr?.on('data', (chunk: Buffer) => {
    if (errors.length < maxErrorText) errors += chunk.toString('utf8');
  });
  let why: string | undefined;
  const stop = (reason: string): void => {
    why ??= reason;
    kill(child);
  };
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  const timer = setTimeout(() => stop(`took longer than ${timeoutMs / 1000} s`), timeoutMs);
  const abort = (): void => stop('was stopped');
  options.signal?.addEventListener('abort', abort, { once: true });
  if (options.signal?.aborted) abort();
  try {
    const [status, killedBy] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve([code, signal]));
    });
    if (status === null) throw new FarbusError(`${tool} ${why ?? `was ended by ${killedBy}`}`);
    return { status, errors };
  } catch (error) {
    if (error instanceof FarbusError) throw error;
    throw new FarbusError(`cannot run ${tool} (${errnoOf(error) ?? messageOf(error)})`, { cause: error });
  } finally {
    running.delete(child);
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', abort);
  }
}
