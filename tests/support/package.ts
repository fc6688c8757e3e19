/**
 * The packed package, installed in an empty folder as a user's program has it. Needs no network:
 * the packages that it depends on are copies of those of this checkout.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
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

/** The packages that the package needs, and Node's types: those of the lock file. */
function dependencies(): readonly string[] {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
  };
  const needed = Object.entries(packages).flatMap(([path, { dev, optional }]) =>
    path === '' || dev || optional || path.includes('/node_modules/') ? [] : [path.replace(/^node_modules\//, '')],
  );
  return [...needed, '@types/node', 'undici-types'];
}

/** A new folder with a program's package.json, in which the package is installed. */
export function folderWithPackage(): string {
  const folder = tempFolder();
  const paths = Object.fromEntries(dependencies().map((name) => [name, `file:${join(root, 'node_modules', name)}`]));
  const manifest = { type: 'module', private: true, dependencies: { ...paths, farbus: `file:${packedPackage()}` } };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  // Copies instead of links: npm would want to install the dependencies of a linked package.
  const args = ['install', '--offline', '--install-links', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund']; // prettier-ignore
  execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  return folder;
}
