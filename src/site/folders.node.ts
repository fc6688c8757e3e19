/** Folders for the logs of sites (XDG Base Directory Specification 0.8). */
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../base/errors.js';

/** The folder of all sites' logs. It may not exist. */
export function logsFolder(env: NodeJS.ProcessEnv): string {
  return join(env['XDG_STATE_HOME'] || join(homedir(), '.local/state'), 'farbus');
}

/** The folder of a site's logs. Creates it if it does not exist. */
export function logFolder(env: NodeJS.ProcessEnv, site: string): string {
  const folder = join(logsFolder(env), site);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new FarbusError(`cannot make the folder of logs: ${messageOf(error)}`, { cause: error });
  }
  return folder;
}
