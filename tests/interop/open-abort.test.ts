/** An opening that a signal ends: it rejects with the signal's reason and leaves nothing open. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { silent } from '../../src/base/log.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { listenOn } from '../../src/network/listen.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { tempFolder } from '../support/temp.js';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const close of closing.splice(0).reverse()) await close();
});

/**
 * Opens a source, aborts when `ready` resolves, calls `after`, and returns the result of the
 * opening.
 */
async function aborted(text: string, ready: () => Promise<void>, after = (): void => undefined): Promise<unknown> {
  const control = new AbortController();
  const reason = new Error('no longer wanted');
  const opening = openSource(parseSource(text), { log: silent, readOnly: true, signal: control.signal });
  const result = opening.then(
    () => 'opened',
    (error: unknown) => (error === reason ? 'the reason' : error),
  );
  await ready();
  control.abort(reason);
  after();
  return result;
}

describe('an opening that is aborted rejects with the reason', () => {
  it('of an NBD server that says nothing; its connection is closed', async () => {
    const path = join(tempFolder(), 'nbd.sock');
    let client: Socket | undefined;
    const server = createServer((socket) => (client = socket.on('error', () => undefined).resume()));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    closing.push(() => server.close());
    const connected = async (): Promise<void> => {
      while (!client) await sleep(5);
    };
    expect(await aborted(`nbd+unix:///?socket=${path}`, connected)).toBe('the reason');
    while (!client!.destroyed) await sleep(5);
  });

  it('of a partition, once the disk has answered the read that is in flight', async () => {
    const path = join(tempFolder(), 'nbd.sock');
    const stalled = new FaultFilter(new MemoryDevice(1 << 20), [{ on: ['read'], action: 'stall' }]);
    const exports = new Exports();
    exports.add({ name: 'disk', device: stalled });
    const server = new Server(exports, silent);
    server.add(await listenOn({ path }, server.accept, () => undefined));
    closing.push(() => server.drain());
    const reading = async (): Promise<void> => {
      while (stalled.stalled === 0) await sleep(5);
    };
    const release = (): void => stalled.clear();
    expect(await aborted(`nbd+unix:///disk?socket=${path},partition=1`, reading, release)).toBe('the reason');
  });

  it.each(['ssh://', 'ssh+dd://', 'ssh+sftp://'])('of %s with an ssh that says nothing; it is ended', async (way) => {
    const folder = tempFolder();
    const [program, note] = [join(folder, 'ssh'), join(folder, 'pid')];
    writeFileSync(program, `#!/bin/sh\necho $$ >${note}.new; mv ${note}.new ${note}\nexec sleep 1000\n`);
    chmodSync(program, 0o755);
    vi.stubEnv('FARBUS_SSH', program);
    const started = async (): Promise<void> => {
      while (!existsSync(note)) await sleep(5);
    };
    expect(await aborted(`${way}host/disk`, started)).toBe('the reason');
    const pid = Number(readFileSync(note, 'utf8'));
    const runs = (): boolean => {
      try {
        return process.kill(pid, 0);
      } catch {
        return false;
      }
    };
    while (runs()) await sleep(5);
  });
});
