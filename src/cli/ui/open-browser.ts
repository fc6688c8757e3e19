/**
 * Opens an address in the user's browser, where there is a display and a person: standard output is
 * a terminal, and this is no CI. The address contains a token, and other users can read command
 * lines. So the browser gets the path of a private file that leads to the address.
 */
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { controlFolder } from '../../app/control/folder.js';
import type { CliIo } from './io.js';

/** True if there is a display on which a person sees a new page. */
function hasDisplay({ stdout, env }: CliIo): boolean {
  const display = env['WAYLAND_DISPLAY'] || env['DISPLAY'];
  return stdout.isTTY === true && Boolean(display) && !env['CI'];
}

/**
 * Opens the address, if there is a display. A failure is no error: the address is printed as well.
 * Returns a function that removes the file; call it at the end.
 */
export function openBrowser(io: CliIo, address: string): () => void {
  if (!hasDisplay(io)) return () => undefined;
  try {
    const path = join(controlFolder(io.env), `console-${process.pid}.html`);
    rmSync(path, { force: true });
    writeFileSync(path, leadingTo(address), { mode: 0o600, flag: 'wx' });
    const child = spawn('xdg-open', [path], { stdio: 'ignore', detached: true, env: io.env });
    child.on('error', () => undefined);
    child.unref();
    return () => rmSync(path, { force: true });
  } catch {
    return () => undefined;
  }
}

function leadingTo(address: string): string {
  const escaped = address.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
  return `<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Farbus</title>
<meta http-equiv="refresh" content="0; url=${escaped}">
`;
}
