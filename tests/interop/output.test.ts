/**
 * Commands whose output cannot be written: to a full disk, to a pipe without a reader, to a
 * terminal that is gone.
 */
import { spawn, spawnSync } from 'node:child_process';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { execute, farbusFile } from './farbus.js';
import { until } from '../support/event-loop.js';

const MiB = 1 << 20;
const full = '/dev/full';

function disk(): { folder: string; image: string; socket: string; uri: string } {
  const folder = tempFolder();
  const image = join(folder, 'd.img');
  writeFileSync(image, new Uint8Array(MiB));
  const socket = join(folder, 'nbd.sock');
  return { folder, image, socket, uri: `nbd+unix:///?socket=${socket}` };
}

/**
 * Sends a server bytes that are not NBD, which it logs. Resolves when the server has closed the
 * connection.
 */
function disturb(path: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ path }, () => socket.write(`GET / HTTP/1.0\r\n\r\n${'x'.repeat(64)}`));
    socket.on('error', () => undefined).on('close', () => resolve());
    socket.resume();
  });
}

/** Resolves with the size of the disk that an independent client sees. */
async function sizeAt(uri: string): Promise<string> {
  const { stdout, stderr } = await execute('nbdinfo', ['--size', uri]);
  return stdout.trim() || stderr;
}

describe.skipIf(missing('nbdinfo'))('A server whose log cannot be written', () => {
  it.each([
    ['on a full disk', 'file', []],
    ['on a full disk, as JSON', 'file', ['--log-format', 'json']],
    ['into a pipe without a reader', 'pipe', []],
    ['with a trace on a full disk', 'file', [`--trace=${full}`]],
    ['with a trace into a pipe without a reader', 'pipe', ['--trace']],
  ] as const)('continues: %s', async (_, kind, options) => {
    const { image, socket, uri } = disk();
    const log = kind === 'file' ? openSync(full, 'w') : 'pipe';
    const child = spawn(process.execPath, [farbusFile, 'serve', '--listen', uri, ...options, image], {
      stdio: ['ignore', 'pipe', log],
    });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    try {
      child.stderr?.destroy();
      await new Promise((resolve) => child.stdout!.once('data', resolve));
      child.stdout!.destroy();
      for (let i = 0; i < 3; i++) {
        await disturb(socket);
        expect(await sizeAt(uri)).toBe(String(MiB));
      }
      child.kill('SIGTERM');
      expect(await ended).toBe(0);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('continues if the reader of its addresses has gone', async () => {
    const { image, uri } = disk();
    const child = spawn(process.execPath, [farbusFile, 'serve', '--listen', uri, image], {
      stdio: ['ignore', openSync(full, 'w'), 'pipe'],
    });
    let said = '';
    child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    try {
      await until(async () => said.includes('cannot print the addresses: no space left on device (ENOSPC)'));
      expect(await sizeAt(uri)).toBe(String(MiB));
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('reports how many lines were lost when there is room again', async () => {
    const { folder, image, socket, uri } = disk();
    const log = join(folder, 'log');
    // A file that must not grow behaves like one on a full disk (EFBIG). Later the limit is
    // removed.
    const child = spawn('sh', ['-c', `ulimit -S -f 0; exec "$0" "$@" 2>>${log}`, process.execPath, farbusFile, 'serve', '--listen', uri, image], { stdio: ['ignore', 'pipe', 'ignore'] }); // prettier-ignore
    try {
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await disturb(socket);
      expect(spawnSync('prlimit', [`--pid=${child.pid}`, '--fsize=unlimited:']).status).toBe(0);
      await until(async () => {
        await disturb(socket);
        return readFileSync(log, 'utf8').includes('lines before this one could not be written');
      });
    } finally {
      child.kill('SIGKILL');
    }
  });
});

/** Starts a server on a terminal (pty(7)), which is then closed, or whose output is not read. */
const onTerminal = `
import os, pty, signal, socket, subprocess, sys, time
how, uri, path, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
pid, master = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
try:
    seen = b''
    while path.encode() not in seen: seen += os.read(master, 65536)
    if how == 'closed': os.close(master)
    for i in range(3):
        s = socket.socket(socket.AF_UNIX); s.connect(path); s.send(b'GET / HTTP/1.0\\r\\n\\r\\n' + b'x' * 64)
        while s.recv(4096): pass
        s.close()
        subprocess.run(['nbdcopy', '--request-size=4096', uri, 'null:'], check=True, timeout=30)
    print(subprocess.run(['nbdinfo', '--size', uri], capture_output=True, text=True, timeout=30).stdout.strip())
    os.kill(pid, signal.SIGTERM)
    end = time.time() + 30
    while time.time() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: print(os.waitstatus_to_exitcode(status)); break
        time.sleep(0.05)
finally:
    try: os.kill(pid, signal.SIGKILL)
    except ProcessLookupError: pass
`;

describe.skipIf(missing('python3') || missing('nbdcopy'))('A server on a terminal', () => {
  it.each(['closed', 'stopped'])('continues when its terminal is %s, and ends by SIGTERM', async (how) => {
    const { image, socket, uri } = disk();
    // The trace exceeds the buffer of a stopped terminal.
    const command = [process.execPath, farbusFile, 'serve', '--trace', '--listen', uri, image];
    const { stdout, stderr } = await execute('python3', ['-c', onTerminal, how, uri, socket, ...command]);
    expect(stdout + stderr).toBe(`${MiB}\n0\n`);
  });
});

describe('A command that attaches a disk', () => {
  it('ends with its command although its log is on a full disk', async () => {
    const { image } = disk();
    const script = `
      const s = require('node:net').connect(process.argv[1], () => s.write('GET / HTTP/1.0\\r\\n\\r\\n' + 'x'.repeat(64)));
      s.resume().on('error', () => 0).on('close', () => setTimeout(() => process.exit(7), 300));`;
    const { status } = spawnSync(
      process.execPath,
      [farbusFile, 'attach', image, '--', process.execPath, '-e', script, '--', '{socket}'],
      { stdio: ['ignore', 'ignore', openSync(full, 'w')] },
    );
    expect(status).toBe(7);
  });
});

describe('A result that cannot be written', () => {
  const commands = (image: string): string[][] => [
    ['info', image],
    ['info', image, '--json'],
    ['copy', image, `${image}.copy`, '--json'],
    ['status', '--json'],
    ['help'],
    ['--version'],
    ['serve', '--help'],
  ];

  it('is one line on stderr, and the exit status 1', () => {
    const { folder, image } = disk();
    for (const args of commands(image)) {
      const { status, stderr } = run(folder, openSync(full, 'w'), args);
      expect(stderr, args.join(' ')).toMatch(/^farbus: cannot write the output: no space left on device \(ENOSPC\)\n$/);
      expect(status, args.join(' ')).toBe(1);
    }
  });

  it('gives only the exit status of a broken pipe if the reader has gone', () => {
    const { folder, image } = disk();
    for (const args of commands(image).filter(([name]) => name !== 'copy')) {
      // The reader ends before anything is written.
      const script = '{ sleep 0.05; "$0" "$@"; echo $? >&3; } | true';
      const env = { ...process.env, XDG_RUNTIME_DIR: folder };
      const { output } = spawnSync('sh', ['-c', script, process.execPath, farbusFile, ...args], {
        encoding: 'utf8',
        env,
        stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      });
      expect({ args, output }).toEqual({ args, output: [null, '', '', '141\n'] });
    }
  });

  it('is an error if only its beginning fits', () => {
    const { folder } = disk();
    const out = join(folder, 'out');
    const limited = 'ulimit -f 1; exec "$0" "$@" > ' + out;
    const result = spawnSync('sh', ['-c', limited, process.execPath, farbusFile, 'serve', '--help'], {
      encoding: 'utf8',
    });
    expect(result.stderr).toMatch(/^farbus: cannot write the output: file too large \(EFBIG\).*\n$/);
    expect(result.status).toBe(1);
  });
});

function run(runtime: string, stdout: number, args: readonly string[]): { status: number | null; stderr: string } {
  return spawnSync(process.execPath, [farbusFile, ...args], {
    encoding: 'utf8',
    env: { ...process.env, XDG_RUNTIME_DIR: runtime },
    stdio: ['ignore', stdout, 'pipe'],
  });
}
