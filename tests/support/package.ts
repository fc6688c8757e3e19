/**
 * The packed package, installed in an empty folder as a user's program has it. Needs no network:
 * the packages that it depends on are links to those of this checkout.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tempFolder } from './temp.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Packs the package, and returns the path of the archive. */
export function packedPackage(): string {
  const folder = tempFolder();
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const [{ filename }] = JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8' })) as [
    { readonly filename: string },
  ];
  return join(folder, filename);
}

/** A new folder with a program's package.json, in which the package is installed. */
export function folderWithPackage(): string {
  const folder = tempFolder();
  const linked = ['v86', 'yaml', 'koffi', '@types/node', 'undici-types'];
  const links = linked
    .map((name) => [name, join(root, 'node_modules', name)] as const)
    .filter(([, path]) => existsSync(path));
  const dependencies = Object.fromEntries([...links, ['farbus', packedPackage()]].map(([n, p]) => [n, `file:${p}`]));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', private: true, dependencies }));
  const args = ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  return folder;
}
