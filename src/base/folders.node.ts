/**
 * Makes a folder together with the folders above it.
 *
 * Node's own recursive mkdir never returns where a file system refuses with ENOENT in a folder that
 * exists, as /proc does.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { errnoOf } from './errors.js';

/**
 * Makes a folder, and the folders above it. Succeeds if it exists.
 * @returns the first folder that was made; undefined if all existed
 * @throws Error the system's error
 */
export function makeFolders(path: string, mode = 0o777): string | undefined {
  return make(path, mode, true);
}

/** @param again try once more if the folder above exists: another process may have just made it */
function make(path: string, mode: number, again: boolean): string | undefined {
  try {
    mkdirSync(path, { mode });
    return path;
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EEXIST' && statSync(path).isDirectory()) return undefined;
    const above = dirname(resolve(path));
    const isThere = existsSync(above);
    if (code !== 'ENOENT' || (isThere && !again)) throw error;
    const first = isThere ? undefined : make(above, mode, true);
    const own = make(path, mode, false);
    return first ?? own;
  }
}
