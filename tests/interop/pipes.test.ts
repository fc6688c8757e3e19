/**
 * A named pipe where a command expects a file. Opening a pipe would wait for its other end, so
 * commands refuse it.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { farbusServe, freeSocket } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { execute, farbus, farbusFile } from './farbus.js';

const pipe = (path: string): string => {
  execFileSync('mkfifo', [path]);
  return path;
};

it('is refused as the journal of a copy', async () => {
  const folder = tempFolder();
  writeFileSync(`${folder}/a.img`, new Uint8Array(65536));
  pipe(`${folder}/b.img.farbus-copy`);
  const { code, stderr } = await farbus('copy', `${folder}/a.img`, `${folder}/b.img`);
  expect(stderr).toMatch(/^farbus: cannot read the journal \S+: it is no regular file\n$/);
  expect(code).toBe(1);
});

it('is refused as a configuration and as a token, at the start and at a reload', async () => {
  const folder = tempFolder();
  const { path } = freeSocket();
  const config = `${folder}/serve.yaml`;
  const text = (more = ''): string =>
    `listen: ["nbd+unix:///?socket=${path}"]\nexports:\n- {name: a, source: "memory:1M"${more}}\n`;
  pipe(`${folder}/pipe`);
  expect((await farbus('serve', '--config', `${folder}/pipe`)).stderr).toMatch(/is a named pipe: give a file\n$/);
  const runtime = `${folder}/run`;
  mkdirSync(runtime, { mode: 0o700 });
  const before = process.env['XDG_RUNTIME_DIR'];
  process.env['XDG_RUNTIME_DIR'] = runtime;
  writeFileSync(config, text());
  const server = await farbusServe({ path: `${folder}/other.sock` }, 'a', ['--config', config]);
  const reload = (): Promise<{ stderr: string }> => execute(process.execPath, [farbusFile, 'status', '--reload']);
  writeFileSync(config, text(`, allow: {token-files: ["${folder}/pipe"]}`));
  expect((await reload()).stderr).toMatch(/is no regular file/);
  rmSync(config);
  pipe(config);
  expect((await reload()).stderr).toMatch(/is a named pipe/);
  rmSync(config);
  writeFileSync(config, text());
  expect((await reload()).stderr).toBe('');
  await server.kill('SIGTERM');
  process.env['XDG_RUNTIME_DIR'] = before;
});
