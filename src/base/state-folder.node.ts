/** The user's folder for state that outlives a process (XDG Base Directory Specification 0.8). */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** The folder, which may not exist: $XDG_STATE_HOME, or ~/.local/state. */
export function stateFolder(env: NodeJS.ProcessEnv): string {
  const state = env['XDG_STATE_HOME'];
  // The specification tells programs to ignore a relative path.
  return state !== undefined && isAbsolute(state) ? state : join(homedir(), '.local', 'state');
}
