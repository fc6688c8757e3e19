/** Temporary folders for tests: each is removed, with all that is in it, when the test file that made it ends. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const made: string[] = [];

/** A new empty folder. Its path is short enough for a unix socket in it. */
export function tempFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'farbus-'));
  made.push(path);
  return path;
}

/** A path for a file that does not exist yet, in a new temporary folder. */
export function tempPath(name: string): string {
  return join(tempFolder(), name);
}

/** Removes every temporary folder made so far. Called by itself after the file's tests. */
export function removeTempFolders(): void {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
}

afterAll(removeTempFolders);
// A test run that is interrupted must not leave its files either.
process.once('exit', removeTempFolders);
