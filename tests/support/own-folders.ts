/**
 * Runs before each test file: creates private folders for control sockets and state, so that
 * concurrent test files and the user's own servers do not see each other. The user's cache of
 * downloaded guests stays in use; tests only add to it. The engine is the same on every machine.
 * Programs that a test kills leave their temporary files in the folder of the test file, too, which
 * is removed at its end.
 */
import { chmodSync } from 'node:fs';
import { tempFolder } from './temp.js';

process.env['FARBUS_ENGINE'] ??= 'v86';
const temporary = tempFolder();
// Servers that drop their privileges reach their own folders in it.
chmodSync(temporary, 0o711);
process.env['TMPDIR'] = temporary;
for (const name of ['XDG_RUNTIME_DIR', 'XDG_STATE_HOME']) {
  const folder = tempFolder();
  chmodSync(folder, 0o700);
  process.env[name] = folder;
}
