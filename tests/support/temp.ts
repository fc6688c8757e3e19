/**
 * Temporary folders for tests. Each is removed with its content at the end of the test file that
 * made it.
 */
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

/** A path for a new file, in a new temporary folder. */
export function tempPath(name: string): string {
  return join(tempFolder(), name);
}

/** Removes every temporary folder made so far. Runs automatically after the file's tests. */
export function removeTempFolders(): void {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
}

afterAll(removeTempFolders);
// Remove them also if the test run is interrupted.
process.once('exit', removeTempFolders);
