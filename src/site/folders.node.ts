/** Where a running site has its control socket and its logs: the folders of the XDG Base Directory Specification 0.8. */
import { lstatSync, mkdirSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../base/errors.js';

/** The folder of control sockets, made where there is none; nobody else may have access to it. */
export function controlFolder(env: NodeJS.ProcessEnv): string {
  const base = env['XDG_RUNTIME_DIR'];
  const folder = base ? join(base, 'farbus') : join(tmpdir(), `farbus-${process.getuid?.() ?? 0}`);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = lstatSync(folder);
    if (uid !== process.getuid?.() || (mode & 0o077) !== 0) {
      throw new FarbusError('others have access to it: remove it, or set XDG_RUNTIME_DIR');
    }
  } catch (error) {
    throw new FarbusError(`cannot use the folder ${folder}: ${messageOf(error)}`, { cause: error });
  }
  return folder;
}

/** The folder of all sites' logs; it may not be there. */
export function logsFolder(env: NodeJS.ProcessEnv): string {
  return join(env['XDG_STATE_HOME'] || join(homedir(), '.local/state'), 'farbus');
}

/** The folder of a site's logs, made where there is none. */
export function logFolder(env: NodeJS.ProcessEnv, site: string): string {
  const folder = join(logsFolder(env), site);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new FarbusError(`cannot make the folder of logs: ${messageOf(error)}`, { cause: error });
  }
  return folder;
}
