/**
 * The start of the benchmarks with a tab of Chromium: a page that loads the modules of dist/ as
 * they are, and a `farbus serve --web` that takes it.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Serves a page, which sets `ready` when its modules are loaded, and the modules of dist/. */
export async function servePage(html) {
  const http = createServer(({ url }, response) => {
    const module = url.startsWith('/dist/') && !url.includes('..');
    response.setHeader('Content-Type', module ? 'text/javascript' : 'text/html');
    response.end(module ? readFileSync(join(root, url)) : html);
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${http.address().port}`, close: () => http.close() };
}

/** Opens such a page, and waits until it is ready. */
export async function openPage(page, origin) {
  await page.open(origin);
  while (!(await page.evaluate('globalThis.ready === true'))) await sleep(5);
}

/**
 * Starts `farbus serve --web` with these arguments. Resolves with its NBD address, the address of
 * its page, and the token in that.
 * @param folder for its state
 * @param origin of a page that may use it
 */
export async function serve(args, { folder, origin }) {
  const options = ['--listen', 'nbd://127.0.0.1:0', '--web', '127.0.0.1:0', '--web-origin', origin];
  const child = spawn(process.execPath, [join(root, 'bin/farbus.js'), 'serve', ...options, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, XDG_STATE_HOME: folder },
  });
  let text = '';
  await new Promise((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      text += chunk;
      if (/http:\S+\n/.test(text)) resolve();
    });
    child.once('exit', () => reject(new Error('the server ended')));
  });
  const web = new URL(/http:\S+/.exec(text)[0]);
  return { nbd: /nbd:\S+\//.exec(text)[0], web, token: web.hash.slice('#token='.length), close: () => child.kill() };
}
