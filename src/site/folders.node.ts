/** Folders for logs and snapshots of sites and computers (XDG Base Directory Specification 0.8). */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../base/errors.js';
import { makeFolders } from '../base/folders.node.js';

/** The folder of all sites' logs. It may not exist. */
export function logsFolder(env: NodeJS.ProcessEnv): string {
  return join(env['XDG_STATE_HOME'] || join(homedir(), '.local/state'), 'farbus');
}

/** Folder of the logs of detached processes. No site's name begins with a dot. */
const detached = '.detached';

/** The folder of the logs of a detached process. It may not exist. */
export function detachedLogs(env: NodeJS.ProcessEnv, name: string): string {
  return join(logsFolder(env), detached, name);
}

/** Like {@link detachedLogs}, but creates the folder if it does not exist. */
export function detachedFolder(env: NodeJS.ProcessEnv, name: string): string {
  return logFolder(env, join(detached, name));
}

/** Folder of the snapshots of running computers: one file for each, and a folder for each site. */
const snapshots = '.snapshots';

/** The file for the snapshot of a running computer, of `farbus run` or of a site. */
export function snapshotFile(env: NodeJS.ProcessEnv, name: string, site?: string): string {
  return join(snapshotFolder(env, site), `${name}.snapshot`);
}

/** The folder for the snapshots of a site's computers. It may not exist. */
export function snapshotFolder(env: NodeJS.ProcessEnv, site = ''): string {
  return join(logsFolder(env), snapshots, site);
}

/** The folder of a site's logs. Creates it if it does not exist. */
export function logFolder(env: NodeJS.ProcessEnv, site: string): string {
  const folder = join(logsFolder(env), site);
  try {
    makeFolders(folder, 0o700);
  } catch (error) {
    throw new FarbusError(`cannot make the folder of logs: ${messageOf(error)}`, { cause: error });
  }
  return folder;
}
