/** Openings that a signal ends at once, even if the system or the other side never answers. */
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { askControl } from '../../src/app/control/client.js';
import { CopyJob } from '../../src/app/copy/job.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { silent } from '../../src/base/log.js';
import { untilAbort } from '../../src/base/abort.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { GatedDisk } from '../support/gated-disk.js';
import { tempFolder, tempImage, tempPath } from '../support/temp.js';

const reason = new Error('the user has left');

/** Aborts while `work` is waiting, and expects that it then ends. */
async function aborts(work: (signal: AbortSignal) => Promise<unknown>): Promise<unknown> {
  const control = new AbortController();
  const waiting = work(control.signal).then(
    () => 'it ended by itself',
    (error: unknown) => error,
  );
  expect(await Promise.race([waiting, sleep(100, 'it waits')])).toBe('it waits');
  control.abort(reason);
  // Linux breaks a lease after 45 s: the end must not wait for that.
  return Promise.race([waiting, sleep(20_000, 'it still waits', { ref: false })]);
}

/** Another process holds a lease on the file (fcntl(2), F_SETLEASE), so that open(2) waits. */
async function hold(path: string): Promise<{ release: () => void }> {
  const script = `$SIG{IO} = 'IGNORE'; open F, '+<', $ARGV[0]; fcntl(F, 1024, 1) or die; $| = 1; print 'held'; sleep 60`;
  const holder = spawn('perl', ['-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const release = (): void => void holder.kill('SIGKILL');
  onTestFinished(release);
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  return { release };
}

function isOpenHere(path: string): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });
}

test.runIf(process.platform === 'linux')('a file whose open(2) waits; a later result is closed', async () => {
  const path = tempImage(4096);
  const { release } = await hold(path);
  const opening = (signal: AbortSignal) => openSource(parseSource(path), { log: silent, signal });
  expect(await aborts(opening)).toBe(reason);
  release();
  const opens = (): boolean => process.getActiveResourcesInfo().includes('FSReqCallback');
  expect(opens()).toBe(true);
  await expect.poll(opens, { timeout: 10_000 }).toBe(false);
  await expect.poll(() => isOpenHere(path), { timeout: 10_000 }).toBe(false);
});

test('a certificate that is a named pipe', async () => {
  const folder = tempFolder();
  const pipe = join(folder, 'ca-cert.pem');
  execFileSync('mkfifo', [pipe]);
  const uri = `nbds://127.0.0.1/x?tls-certificates=${folder}`;
  expect(await aborts((signal) => openNbd(uri, { signal }))).toBe(reason);
  // End the thread that waits in open(2).
  execFileSync('sh', ['-c', `: > ${pipe}`]);
});

test('a request to a control socket whose process does not answer', async () => {
  const path = tempPath('silent.sock');
  let withdrawn: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => (withdrawn = resolve));
  const server = createServer((socket) =>
    socket
      .on('error', () => undefined)
      .on('close', withdrawn)
      .resume(),
  );
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => void server.close());
  expect(await aborts((signal) => askControl(path, { command: 'x' }, { signal }))).toBe(reason);
  await closed;
  await expect(askControl(path, { command: 'x' }, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test('the identification of the source of a copy', async () => {
  const [source, target] = [new GatedDisk(1 << 20), new MemoryDevice(1 << 20)];
  const warnings: string[] = [];
  const log = { log: (_: string, message: string) => void warnings.push(message) };
  const ends = { from: 'a far disk', to: tempPath('target.img'), source, target, fresh: false };
  const error = await aborts((signal) =>
    new CopyJob({
      ...ends,
      jobs: 1,
      assumeSame: false,
      names: { resume: '--resume', assumeSame: '--assume-same' },
      verify: false,
      resume: false,
      env: { XDG_STATE_HOME: tempFolder() },
      log,
      signal,
    }).run(() => undefined),
  );
  expect(error).toMatchObject({ message: 'stopped before the copy began' });
  expect(warnings).toEqual([]);
});

test('work that ends as usual passes on its result or error', async () => {
  const { signal } = new AbortController();
  expect(await untilAbort(signal, Promise.resolve(1))).toBe(1);
  await expect(untilAbort(signal, Promise.reject(reason))).rejects.toBe(reason);
  expect(await untilAbort(undefined, Promise.resolve(2))).toBe(2);
});
