// Rewrites src/guest/packages.lock.json, or the lock file that the first argument names, with the
// versions that the suite has today. Needs a build (npm ci makes one), and gpgv with
// debian-archive-keyring: only packages that Debian signed are pinned.
import { readFile, writeFile } from 'node:fs/promises';
import { mirrorsOf } from '../dist/guest/fetch.node.js';
import { readSuite } from '../dist/guest/suite.node.js';

const file = new URL(`../src/guest/${process.argv[2] ?? 'packages.lock.json'}`, import.meta.url);
const old = JSON.parse(await readFile(file, 'utf8'));
const suiteName = process.argv[3] ?? old.suite;
const suite = await readSuite(mirrorsOf(old)[0], suiteName, old.architecture, {
  log: { log: (level, message) => console.error(`${level}: ${message}`) },
  onProgress: () => undefined,
});
const lock = {
  suite: suiteName,
  architecture: old.architecture,
  snapshot: new Date().toISOString().replace(/\..*|[-:]/g, '') + 'Z',
  packages: old.packages.map(({ name }) => suite.find(name)),
};
await writeFile(file, JSON.stringify(lock, null, 2) + '\n');
for (const { package: name, version } of lock.packages) console.log(`${name} ${version}`);
