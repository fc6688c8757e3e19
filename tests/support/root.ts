/**
 * Things that tests do as root: mount file systems and attach loop devices. Everything is undone at
 * the end of the test file.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterAll } from 'vitest';
// Import this first: hooks run in reverse order, so its folders are removed after the mounts here
// are undone.
import './temp.js';

const undo: (() => void)[] = [];

function undoAll(): void {
  for (const step of undo.splice(0).reverse()) {
    try {
      step();
    } catch (error) {
      console.error(`could not undo: ${String(error)}`);
    }
  }
}

afterAll(undoAll);
process.prependOnceListener('exit', undoAll);

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

/**
 * The reason why tests that need root cannot run here; undefined if they can. In CI, throws if root
 * cannot attach loop devices.
 */
export function cannotLoop(): string | undefined {
  if (process.getuid?.() !== 0) return 'these tests need root';
  if (!existsSync('/dev/loop-control')) return 'these tests need loop devices (modprobe loop)';
  try {
    run('losetup', '--find');
    return undefined;
  } catch (error) {
    if (process.env['CI']) throw error;
    return `these tests need losetup: ${String(error)}`;
  }
}

/** Attaches `image` to a loop device. Returns the device's path. */
export function attachLoop(image: string, ...args: string[]): string {
  const device = run('losetup', '--find', '--show', ...args, image);
  undo.push(() => run('losetup', '--detach', device));
  return device;
}

/** Mounts a file system. Returns a function that unmounts it immediately. */
export function mount(...args: string[]): () => void {
  const at = args.at(-1)!;
  run('mount', ...args);
  let mounted = true;
  const unmount = (): void => {
    if (mounted) run('umount', at);
    mounted = false;
  };
  undo.push(unmount);
  return unmount;
}
