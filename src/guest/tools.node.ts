/**
 * Runs programs of the operating system for tasks that no library here does, with a time limit and
 * one-line errors if one is missing or fails.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';

/** The Debian package of each program. */
const packages = {
  xz: 'xz-utils',
  zstd: 'zstd',
  'dpkg-deb': 'dpkg',
  tar: 'tar',
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

export interface ToolOptions {
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
  return searchPath()
    .split(delimiter)
    .some((folder) => {
      try {
        accessSync(join(folder, tool), constants.X_OK);
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
  const install = [...new Set(missing.map((tool) => packages[tool]))].join(' ');
  throw new FarbusError(
    `${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not installed: run "sudo apt-get install ${install}"`,
  );
}

/**
 * Runs a program until it ends.
 * @returns Its exit status, which the caller must check, and its output.
 * @throws FarbusError if the program is missing, is killed by a signal, takes too long or writes
 * too much
 */
export async function runTool(tool: Tool, args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  needTools(tool);
  const child = spawn(tool, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, PATH: searchPath() },
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

/**
 * Runs `from | to`.
 * @throws FarbusError if a program is missing or fails
 */
export async function runPipe(
  from: { readonly tool: Tool; readonly args: readonly string[] },
  to: { readonly tool: Tool; readonly args: readonly string[] },
  options: ToolOptions = {},
): Promise<void> {
  needTools(from.tool, to.tool);
  const left = spawn(from.tool, from.args, { stdio: ['ignore', 'pipe', 'pipe'], detached });
  const right = spawn(to.tool, to.args, { stdio: ['pipe', 'ignore', 'pipe'], detached });
  const ends = [watch(from.tool, left, options), watch(to.tool, right, options)] as const;
  // Ignore the broken pipe if one of the two fails; its status tells why.
  const flow = pipeline(left.stdout, right.stdin).catch(() => undefined);
  const results = await Promise.allSettled(ends);
  await flow;
  // Report both: if one fails, the other often does too, and the order of failure is unknown.
  const failures = results.flatMap((result, index) => {
    if (result.status === 'rejected') return [messageOf(result.reason)];
    const { status, errors } = result.value;
    return status === 0 ? [] : [`${[from, to][index]!.tool} failed with status ${status}: ${messageOf(errors)}`];
  });
  if (failures.length > 0) throw new FarbusError(failures.join('; '));
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
