/** Writes the configuration of a minimal Debian (configuration.ts) into its root file system. */
import { readFile } from 'node:fs/promises';
import { accounts, configuration, groupFiles } from './configuration.js';
import type { RootTree } from './tree.node.js';

/**
 * Call before unpacking packages: makes /bin, /sbin and /lib links into /usr, as in Debian since
 * 12.
 */
export async function prepareTree(tree: RootTree): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib']) {
    await tree.directory(`usr/${name}`);
    await tree.link(name, `usr/${name}`);
  }
}

/** Call after unpacking packages: writes the configuration files. */
export async function configure(tree: RootTree): Promise<void> {
  const { files, modes, groups, folders, links, copies } = configuration;
  const write = (path: string, data: string | Uint8Array): Promise<void> =>
    tree.write(path, data, modes[path] ?? 0o644, { uid: 0, gid: groups[path] ?? 0 });
  const read = async (path: string): Promise<Buffer> => readFile(await tree.locate(path));
  for (const path of folders) await tree.directory(path);
  for (const [from, to] of Object.entries(copies)) await write(to, await read(from));
  for (const [path, text] of Object.entries(files)) await write(path, text);
  for (const [path, target] of Object.entries(links)) await tree.link(path, target);
  const masters = await Promise.all(['passwd', 'group'].map((name) => read(`usr/share/base-passwd/${name}.master`)));
  const [users, names] = masters.map(String) as [string, string];
  for (const [name, text] of Object.entries({ ...accounts(users), ...groupFiles(names) }))
    await write(`etc/${name}`, text);
}
