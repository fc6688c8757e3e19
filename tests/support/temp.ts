/**
 * Temporary folders for tests. Each is removed with its content at the end of the test file that
 * made it.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
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

/** Path of a new disk image with these bytes, or with a hole of this size. */
export function tempImage(content: Uint8Array | number, name = 'disk.img'): string {
  const path = tempPath(name);
  const hole = typeof content === 'number';
  writeFileSync(path, hole ? '' : content);
  if (hole) truncateSync(path, content);
  return path;
}

/** Removes every temporary folder made so far. Runs automatically after the file's tests. */
function removeTempFolders(): void {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
}

// A benchmark that uses the tests' support has no test file.
if (process.env['VITEST']) afterAll(removeTempFolders);
// Remove them also if the test run is interrupted.
process.once('exit', removeTempFolders);
