/**
 * Long requests on control sockets: progress, withdrawal, and a folder that belongs to its user
 * only.
 */
import { chmodSync, lchownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { controlFolder, findControlFolder } from '../../src/app/control/folder.js';
import { buffersOf } from '../../src/base/buffers.js';
import { LeaseArbiter } from '../../src/block/filters/lease.js';
import { askControl, openControl } from '../../src/app/control/client.js';
import { ControlStream, serveControl, type ControlHandler, type ControlSocket } from '../../src/app/control/server.js';
import { GatedDisk } from '../support/gated-disk.js';
import { tempFolder } from '../support/temp.js';

const root = process.getuid?.() === 0;
const open: ControlSocket[] = [];
afterEach(async () => {
  for (const socket of open.splice(0)) await socket.close();
});

async function serve(handler: ControlHandler): Promise<string> {
  const socket = await serveControl('serve-1', handler, { XDG_RUNTIME_DIR: tempFolder() });
  open.push(socket);
  return socket.path;
}

describe('A request that takes its time', () => {
  it('is awaited as long as the server reports progress, with the reason', async () => {
    let left = 3;
    const path = await serve(async (_, work) => {
      work.waitsFor(() => `${left} writes`);
      for (; left > 0; left--) await sleep(1000);
      return 'done';
    });
    const told: string[] = [];
    expect(await askControl(path, { command: 'x' }, { limitMs: 2500, onWorking: (what) => told.push(what) })).toBe('done'); // prettier-ignore
    expect(told[0]).toBe('3 writes');
    expect(told.length).toBeGreaterThan(1);
  });

  it('is never begun if the client has gone, as after a server was stopped', async () => {
    const begun: string[] = [];
    const path = await serve(async ({ command }) => begun.push(command));
    const socket = connect(path);
    await new Promise((resolve) => socket.once('connect', resolve));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('{"command":"given up","progress":true}\n');
    socket.destroy();
    await closed;
    await askControl(path, { command: 'next' });
    expect(begun).toEqual(['next']);
  });

  it('is withdrawn when its client disconnects', async () => {
    let withdrawn: (why: unknown) => void = () => undefined;
    const seen = new Promise((resolve) => (withdrawn = resolve));
    const path = await serve(async (_, { signal, waitsFor }) => {
      waitsFor(() => 'nothing');
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      withdrawn((signal.reason as Error).message);
    });
    const socket = connect(path, () => socket.write('{"command":"x","progress":true}\n'));
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    expect(await seen).toBe('the request was withdrawn');
  });

  it('is told apart from one without any answer', async () => {
    const path = await serve(() => new Promise(() => undefined));
    const socket = connect(path);
    // Without progress messages, as version 0.1.0 asks.
    socket.on('error', () => undefined);
    await expect(askControl(path, { command: 'x' }, { limitMs: 200 })).rejects.toMatchObject({ kind: 'no-answer' });
    socket.destroy();
  });

  it('leaves the lease with its holder when it is withdrawn, and the holder can still write', async () => {
    const disk = new GatedDisk(4096);
    const lease = new LeaseArbiter(disk, ['network', 'local']);
    const side = lease.side('network');
    const write = side.write(0, buffersOf(new Uint8Array(512)));
    const withdraw = new AbortController();
    const told: string[] = [];
    const move = lease.move('local', { signal: withdraw.signal, waitsFor: (what) => told.push(what()) });
    withdraw.abort();
    await expect(move).rejects.toThrow('the lease stays with network: its writes are not over yet, and the request was withdrawn'); // prettier-ignore
    expect(told).toEqual(['the writes of network in flight (1)']);
    disk.open();
    await write;
    expect(lease.holder).toBe('network');
    await lease.move('local');
    expect(lease.holder).toBe('local');
  });
});

describe('A request for a stream', () => {
  it('is answered, and then the socket carries bytes in both directions', async () => {
    const path = await serve(async ({ command }) => {
      if (command !== 'echo') throw new Error('no such stream');
      return new ControlStream((socket, rest) => {
        socket.write('welcome;');
        socket.on('data', (bytes: Buffer) => socket.write(bytes));
        if (rest.length > 0) socket.write(rest);
        socket.resume();
      });
    });
    await expect(openControl(path, { command: 'x' })).rejects.toThrow(/^no such stream$/);
    const { socket, rest, result } = await openControl(path, { command: 'echo' });
    expect(result).toEqual({});
    let got = Buffer.from(rest).toString();
    const all = new Promise<void>((resolve) => {
      socket.on('data', (bytes: Buffer) => {
        got += bytes.toString();
        if (got === 'welcome;one;') resolve();
      });
    });
    socket.write('one;');
    socket.resume();
    await all;
    socket.destroy();
  });

  it('that causes the end of the server is answered before the end', async () => {
    const env = { XDG_RUNTIME_DIR: tempFolder() };
    let closed: Promise<void> | undefined;
    const socket: ControlSocket = await serveControl('site-x', async () => void (closed = socket.close()), env);
    expect(await askControl(socket.path, { command: 'down' })).toBeUndefined();
    await closed;
  });
});

describe('The folder of control sockets', () => {
  it('keeps the socket of a site whose name ends like one with a process number', async () => {
    const env = { XDG_RUNTIME_DIR: tempFolder() };
    // No process has this number: it is above the kernel's limit.
    const site = await serveControl('site-demo-4999999', async () => 'yes', env);
    const other = await serveControl('serve-1', async () => 'no', env);
    expect(await askControl(site.path, { command: 'x' })).toBe('yes');
    await site.close();
    await other.close();
  });

  it('is made for its owner alone, and is the same for all', () => {
    const env = { XDG_RUNTIME_DIR: tempFolder() };
    expect(findControlFolder(env)).toBeUndefined();
    expect(controlFolder(env)).toBe(join(env.XDG_RUNTIME_DIR, 'farbus'));
    expect(findControlFolder(env)).toBe(controlFolder(env));
  });

  const wrong: [string, (path: string) => void, RegExp][] = [
    ['a link', (path) => symlinkSync(tempFolder(), path), /it is a link: remove it$/],
    ['a dangling link', (path) => symlinkSync('nowhere', path), /it is a link: remove it$/],
    ['a file', (path) => writeFileSync(path, ''), /it is not a folder: remove it$/],
    ['open to others', (path) => (mkdirSync(path), chmodSync(path, 0o755)), /others have access to it: remove it/],
  ];
  if (root) {
    wrong.push(['of another user', (path) => (mkdirSync(path, { mode: 0o700 }), lchownSync(path, 12345, 12345)), /it is of another user: set XDG_RUNTIME_DIR/]); // prettier-ignore
  }
  it.each(wrong)('is refused if it is %s', (_, make, why) => {
    const env = { XDG_RUNTIME_DIR: tempFolder() };
    make(join(env.XDG_RUNTIME_DIR, 'farbus'));
    expect(() => controlFolder(env)).toThrow(why);
    expect(() => findControlFolder(env)).toThrow(why);
  });
});
