/**
 * A private cache folder for a test. It contains links to the guest files in the user's cache, so
 * that nothing is downloaded twice, and so that the test does not change or remove other entries of
 * that cache.
 */
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../src/guest/cache.node.js';
import { tempFolder } from './temp.js';

/**
 * Entries that hold downloaded files, or files made from them, under names derived from their
 * content.
 */
const shared = ['packages', 'unpacked', 'kernel', 'initramfs', 'firmware', 'guest-disk'];

/** @returns the value of XDG_CACHE_HOME for the commands that use it */
export function privateCache(): string {
  const home = tempFolder();
  const [own, users] = [join(home, 'farbus'), cacheFolder()];
  mkdirSync(own);
  for (const name of existsSync(users) ? readdirSync(users) : []) {
    if (shared.includes(name)) symlinkSync(join(users, name), join(own, name));
  }
  return home;
}
