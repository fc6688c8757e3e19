/**
 * A cache folder of a test's own, in which the guests' files that have been fetched are those of the user's cache: links to
 * them, so that nothing is fetched twice, and so that what the test makes and removes is not the user's.
 */
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../src/guest/cache.node.js';
import { tempFolder } from './temp.js';

/** What is fetched or made of that, under names that tell its content. */
const shared = ['packages', 'unpacked', 'kernel', 'initramfs', 'firmware', 'guest-disk'];

/** @returns the value of XDG_CACHE_HOME for the commands that are to use it. */
export function privateCache(): string {
  const home = tempFolder();
  const [own, users] = [join(home, 'farbus'), cacheFolder()];
  mkdirSync(own);
  for (const name of existsSync(users) ? readdirSync(users) : []) {
    if (shared.includes(name)) symlinkSync(join(users, name), join(own, name));
  }
  return home;
}
