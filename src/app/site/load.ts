/** Reads a site file. Not here: what it may contain (app/config/site.ts). */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { FarbusError } from '../../base/errors.js';
import type { SitePlan } from '../../site/plan.js';
import { readConfigText } from '../config/reader.js';
import { readSite } from '../config/site.js';

/**
 * Reads a site file. Relative paths in it start at the working directory, which must be the file's
 * folder.
 */
export async function loadSite(file: string): Promise<SitePlan> {
  const text = await readConfigText(file);
  return readSite(file, text, { name: basename(file).replace(/\.[^.]*$/, ''), checkFile });
}

function checkFile(path: string): void {
  if (!existsSync(path)) throw new FarbusError(`there is no file ${path}`);
}
