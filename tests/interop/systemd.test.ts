/** `farbus serve` with systemd's protocols: sockets passed by systemd, and notifications to it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { handedSockets } from '../../src/export/systemd.node.js';
import { readSettings } from '../../src/app/serve/config.js';
import { AF_UNIX, socketCalls, SOCK_DGRAM } from '../../src/linux/sockets.node.js';
import { ask, entered } from '../support/nbd-client.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { execute, farbusFile } from './farbus.js';

const running = new Set<ChildProcess>();
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

function start(program: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  child.once('close', () => running.delete(child));
  return child;
}

async function until<T>(look: () => T | undefined): Promise<T> {
  for (let i = 0; i < 2000; i++) {
    const found = look();
    if (found !== undefined) return found;
    await sleep(10);
  }
  throw new Error('it did not come');
}

/** Collects the messages to a unix datagram socket at `path`, as systemd does. */
function listener(path: string): { messages: string[]; close: () => void } {
  const system = socketCalls('notify.sock');
  const fd = system.socket(AF_UNIX, SOCK_DGRAM, 0);
  const name = Buffer.from(`${path}\0`);
  const address = Buffer.alloc(2 + name.length);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  system.bind(fd, address);
  const messages: string[] = [];
  const timer = setInterval(() => {
    const bytes = Buffer.alloc(4096);
    for (let length = system.read(fd, bytes); length > 0; length = system.read(fd, bytes)) {
      messages.push(bytes.toString('utf8', 0, length));
    }
  }, 10);
  const close = (): void => {
    clearInterval(timer);
    system.close(fd);
  };
  return { messages, close };
}

describe('systemd', () => {
  it.skipIf(missing('systemd-socket-activate'))('hands over sockets, and no others are opened', async () => {
    const folder = tempFolder();
    const path = join(folder, 'handed.sock');
    const args = [`--listen=${path}`, '--fdname=disk', process.execPath, farbusFile, 'serve', 'm=memory:1M', '--json'];
    const child = start('systemd-socket-activate', args, { XDG_RUNTIME_DIR: folder });
    let out = '';
    child.stdout!.on('data', (chunk: Buffer) => (out += chunk.toString()));
    let err = '';
    child.stderr!.on('data', (chunk: Buffer) => (err += chunk.toString()));
    // The path exists before the socket listens.
    await until(() => (err.includes('Listening') ? true : undefined));
    // The first connection starts the server.
    const socket = await entered({ path }, 'm');
    expect(await ask(socket, 3)).toBe(0);
    await until(() => (out.includes('\n') ? true : undefined));
    const { listening } = JSON.parse(out) as { listening: string[] };
    expect(listening).toEqual([`nbd+unix:///?socket=${path}`]);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    // The socket belongs to systemd.
    expect(existsSync(path)).toBe(true);
  });

  it('is told when the server is ready, reloads, is alive, and stops', async () => {
    const folder = tempFolder();
    const config = join(folder, 'serve.yaml');
    writeFileSync(
      config,
      `listen: ['nbd+unix:///?socket=${folder}/nbd.sock']\nexports: [{source: 'memory:1M', name: m}]\n`,
    );
    const heard = listener(join(folder, 'notify.sock'));
    try {
      const env = { NOTIFY_SOCKET: join(folder, 'notify.sock'), WATCHDOG_USEC: '100000', XDG_RUNTIME_DIR: folder };
      const child = start(process.execPath, [farbusFile, 'serve', '--config', config], env);
      const said = (pattern: RegExp): Promise<string> => until(() => heard.messages.find((one) => pattern.test(one)));
      expect(await said(/READY/)).toBe('READY=1\nSTATUS=1 exports: m');
      await said(/^WATCHDOG=1$/);
      heard.messages.length = 0;
      child.kill('SIGHUP');
      expect(await said(/RELOADING/)).toMatch(/^RELOADING=1\nMONOTONIC_USEC=\d+$/);
      await said(/READY=1/);
      child.kill('SIGTERM');
      await said(/STOPPING=1/);
      await until(() => (child.exitCode === null ? undefined : child.exitCode));
      expect(child.exitCode).toBe(0);
    } finally {
      heard.close();
    }
  });

  it('passes its sockets only to the process that they are meant for', () => {
    expect(handedSockets({ LISTEN_PID: '1', LISTEN_FDS: '2' }, 7)).toEqual([]);
    expect(handedSockets({}, 7)).toEqual([]);
    const env = { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'a:b', HOME: '/' };
    expect(handedSockets(env, 7)).toEqual([
      { fd: 3, name: 'a' },
      { fd: 4, name: 'b' },
    ]);
    expect(env).toEqual({ HOME: '/' });
  });

  it.each([
    { LISTEN_FDS: 'abc' },
    { LISTEN_PID: 'x', LISTEN_FDS: '1' },
    ...['abc', '', '0', '-2', '1e1', ' 1', '1025'].map((LISTEN_FDS) => ({ LISTEN_PID: '7', LISTEN_FDS })),
  ])('is told of variables that make no sense: %o', (env) => {
    expect(() => handedSockets({ ...env }, 7)).toThrow(
      /^LISTEN_(FDS|PID)\b.*: unset it, or let a socket unit start this/,
    );
  });

  it('accepts the units and the configuration of the package', async () => {
    const folder = new URL('../../packaging/', import.meta.url).pathname;
    expect((await readSettings(join(folder, 'serve.yaml'))).exports.map(({ name }) => name)).toEqual([
      'data',
      'system',
    ]);
    if (missing('systemd-analyze')) return;
    const units = ['farbus.service', 'farbus.socket', 'farbus@.service'].map((name) => join(folder, name));
    for (const unit of units) expect(readFileSync(unit, 'utf8')).toMatch(/^# /);
    const { stderr } = await execute('systemd-analyze', ['verify', '--man=no', ...units]);
    expect(stderr.split('\n').filter((line) => line.includes('farbus'))).toEqual([]);
  });
});
