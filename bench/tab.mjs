/**
 * The start of the benchmarks with a tab of Chromium: a page that loads the modules of dist/ as
 * they are, and a `farbus serve --web` that takes it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Serves a page, which sets `ready` when its modules are loaded, and the modules of dist/.
 * @param files paths of other files by their URLs; parts of them can be requested
 */
export async function servePage(html, files = {}) {
  const http = createServer(({ url, headers }, response) => {
    const module = url.startsWith('/dist/') && !url.includes('..');
    const path = files[url] ?? (module ? join(root, url) : undefined);
    const type = path === undefined ? 'text/html' : (types[extname(path)] ?? 'application/octet-stream');
    response.setHeader('Content-Type', type);
    response.setHeader('Cache-Control', 'no-store');
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
    if (path === undefined) response.end(html);
    else if (from === undefined) response.end(readFileSync(path));
    else {
      const { size } = statSync(path);
      response.writeHead(206, { 'Content-Range': `bytes ${from}-${to}/${size}`, 'Content-Length': to - from + 1 });
      createReadStream(path, { start: Number(from), end: Number(to) }).pipe(response);
    }
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  const { port } = http.address();
  return { origin: `http://127.0.0.1:${port}`, port, close: () => http.close() };
}

const types = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };

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

/** A port on loopback before `port`, which delays each byte in both directions. */
export async function delayed(port, delayMs) {
  const probe = createTcpServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const own = probe.address().port;
  probe.close();
  const file = fileURLToPath(new URL('delaying-proxy.mjs', import.meta.url));
  const child = spawn(process.execPath, [file, String(own), String(port), String(delayMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return { host: `127.0.0.1:${own}`, close: () => child.kill() };
}
