/** The console page is opened where there is a display, and the token is in no command line. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { controlFolder } from '../../src/app/control/folder.js';
import { openBrowser } from '../../src/cli/ui/open-browser.js';
import type { CliIo } from '../../src/cli/ui/io.js';
import { tempFolder } from '../support/temp.js';

const address = 'http://127.0.0.1:8080/#token=SECRET';

/** A user's terminal whose browser notes what it is given. */
function terminal(env: NodeJS.ProcessEnv, isTTY = true): { io: CliIo; opened: string } {
  const folder = tempFolder();
  const opened = join(folder, 'opened');
  const program = join(folder, 'xdg-open');
  writeFileSync(
    program,
    `#!/bin/sh\nprintf '%s\\n' "$1" > ${opened}.new && cat "$1" >> ${opened}.new && mv ${opened}.new ${opened}\n`,
  );
  chmodSync(program, 0o755);
  const io = { stdout: { isTTY }, env: { ...process.env, PATH: `${folder}:${process.env['PATH']}`, CI: '', ...env } };
  return { io: io as unknown as CliIo, opened };
}

test('a browser on the display is given a private file that leads to the address', async () => {
  const { io, opened } = terminal({ DISPLAY: ':0' });
  const close = openBrowser(io, address);
  while (!existsSync(opened)) await new Promise((resolve) => setTimeout(resolve, 10));
  const [argument, ...content] = readFileSync(opened, 'utf8').split('\n');
  expect(argument).not.toContain('SECRET');
  expect(content.join('\n')).toContain(`content="0; url=${address}"`);
  close();
  expect(existsSync(argument!)).toBe(false);
});

test.each([
  ['without a display', {}, true],
  ['in CI', { DISPLAY: ':0', CI: 'true' }, true],
  ['in a pipe', { WAYLAND_DISPLAY: 'wayland-0' }, false],
])('%s nothing is opened', (_, env, isTTY) => {
  const { io } = terminal({ DISPLAY: '', WAYLAND_DISPLAY: '', ...env }, isTTY);
  const close = openBrowser(io, address);
  expect(existsSync(join(controlFolder(io.env), `console-${process.pid}.html`))).toBe(false);
  close();
});

test('a browser that is missing is no error', async () => {
  const { io } = terminal({ DISPLAY: ':0' });
  (io.env as NodeJS.ProcessEnv)['PATH'] = '/nonexistent';
  openBrowser(io, address)();
  await new Promise((resolve) => setImmediate(resolve));
});
