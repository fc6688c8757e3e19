/**
 * Runs before each test file: folders of its own for control sockets and state, so that files that run at the same time, and
 * the user's own servers, do not see each other. The cache of downloaded guests stays the user's: it is only added to.
 */
import { chmodSync } from 'node:fs';
import { tempFolder } from './temp.js';

for (const name of ['XDG_RUNTIME_DIR', 'XDG_STATE_HOME']) {
  const folder = tempFolder();
  chmodSync(folder, 0o700);
  process.env[name] = folder;
}
