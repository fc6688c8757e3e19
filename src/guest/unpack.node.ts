/**
 * Unpacks parts of Debian packages into the cache folder with Debian's `dpkg-deb` and `tar`. It
 * unpacks only the requested parts: a kernel package has some 180 MB of modules, of which a guest
 * needs a few.
 */
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, makeFolder, sha256 } from './cache.node.js';
import type { FetchedPackage } from './fetch.node.js';
import { runPipe } from './tools.node.js';
import type { ToolOptions } from './tools.node.js';

export interface UnpackOptions extends ToolOptions {
  /** Default: {@link cacheFolder}. */
  readonly cacheDir?: string | undefined;
  /** Patterns of files to leave out, in the syntax of the parts. */
  readonly without?: readonly string[];
}

/**
 * The folder with the parts of a package. Unpacks them if they are not in the cache.
 * @param parts tar(1) wildcard patterns, in which "*" also matches "/": "./boot/vmlinuz-*". A
 * pattern that matches nothing is an error.
 * @throws FarbusError if a program is missing or fails
 */
export async function unpackPackage(
  fetched: FetchedPackage,
  parts: readonly string[],
  options: UnpackOptions = {},
): Promise<string> {
  const { without = [] } = options;
  const choice = without.length === 0 ? parts : { parts, without };
  const key = `${fetched.sha256.slice(0, 16)}-${sha256(JSON.stringify(choice)).slice(0, 8)}`;
  const folder = join(options.cacheDir ?? cacheFolder(), 'unpacked', key);
  if (await isFolder(folder)) return folder;
  await makeFolder(folder, async (temporary) => {
    const args = ['--extract', '--no-same-owner', '--directory', temporary, '--wildcards'];
    args.push(...without.map((pattern) => `--exclude=${pattern}`), '--', ...parts);
    await runPipe({ tool: 'dpkg-deb', args: ['--fsys-tarfile', fetched.file] }, { tool: 'tar', args }, options);
    await syncFiles(temporary);
  });
  return folder;
}

/** The sorted paths of all files below `folder`, relative to it. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

/**
 * Makes the files durable. Nothing checks them later, so a power cut must not leave empty ones
 * under the final name.
 */
async function syncFiles(folder: string): Promise<void> {
  for (const name of await filesBelow(folder)) {
    const file = await open(join(folder, name));
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
