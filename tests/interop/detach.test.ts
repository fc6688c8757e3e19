/** `farbus serve --detach` and `farbus run --detach` are ready when they return. */
import { once } from 'node:events';
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { bootRecord } from '../support/boot-record.js';
import { Processes } from '../support/processes.js';

const listen = ['--listen', 'nbd://127.0.0.1:0'];
/** A server that accepts connections and never says anything. */
const silent = createServer(() => undefined);
afterAll(() => silent.close());

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('farbus serve --detach', () => {
  it('returns when the server is ready, leaves it without a terminal, and keeps its log', async () => {
    const place = new Processes();
    const { code, stdout, stderr } = await place.farbus('serve', '--detach', ...listen, place.image);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [, uri] = /^server\n(nbd:\/\/127\.0\.0\.1:\d+\/d\.img)\n$/.exec(stdout)!;
    const [one] = await place.list();
    expect(one).toMatchObject({ name: 'server', kind: 'server', state: 'running', uses: [place.image], reach: [uri] });
    // It is usable at once.
    expect((await place.farbus('info', uri!)).code).toBe(0);
    for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${one!.pid}/fd/${fd}`)).toBe('/dev/null');
    // A session of its own: neither the terminal's signals nor its end reach it.
    const stat = readFileSync(`/proc/${one!.pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    expect({ group: Number(stat[2]), session: Number(stat[3]), terminal: stat[4] }).toEqual({
      group: one!.pid,
      session: one!.pid,
      terminal: '0',
    });
    const json = JSON.parse((await place.farbus('serve', '-d', '--json', ...listen, 'memory:1M')).stdout) as object;
    expect(json).toMatchObject({ name: 'server-2', exports: [{ name: 'memory:1M' }] });
    expect((await place.farbus('logs', 'server')).stdout).toMatch(/^\S+Z process \d+\n$/);
    expect(await place.farbus('stop', 'server', 'server-2')).toMatchObject({ code: 0, stderr: '' });
    expect(lives(one!.pid)).toBe(false);
    // The log remains.
    expect((await place.farbus('logs', 'server')).code).toBe(0);
    expect((await place.farbus('logs', 'servr')).stderr).toMatch(/^farbus: [^\n]+\n$/);
  });

  it('fails with the status and the line of what failed, and leaves nothing', async () => {
    const place = new Processes();
    const missing = await place.farbus('serve', '--detach', ...listen, join(place.folder, 'none.img'));
    expect(missing).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^farbus: [^\n]*no such file[^\n]*\n$/),
    });
    expect(await place.farbus('serve', '--detach', 'x', '--tls', 'perhaps')).toMatchObject({ code: 2, stdout: '' });
    await place.serve('--server-name', 'store');
    const taken = await place.farbus('serve', '--detach', ...listen, 'memory:1M', '--server-name', 'store');
    expect(taken).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^farbus: there is a server called store already[^\n]+\n$/),
    });
    expect(await place.farbus('serve', '-d', ...listen, 'memory:1M', '--server-name', '../x')).toMatchObject({
      code: 2,
    });
    // Its logs cannot be written.
    place.env['XDG_STATE_HOME'] = place.image;
    const logs = await place.farbus('serve', '--detach', ...listen, 'memory:1M');
    expect(logs).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^farbus: cannot make the folder of logs: [^\n]+\n$/),
    });
    place.env['XDG_RUNTIME_DIR'] = '/proc/none';
    const found = await place.farbus('serve', '--detach', ...listen, 'memory:1M');
    expect(found).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^farbus: cannot use the folder of control sockets [^\n]+\n$/),
    });
    place.env['XDG_RUNTIME_DIR'] = place.folder;
    expect((await place.list()).map(({ name }) => name)).toEqual(['store']);
  });

  it('ends with the command that waits for it, however that ends, and is reported if it is killed', async () => {
    const place = new Processes();
    const path = join(place.folder, 'silent.sock');
    silent.listen(path);
    await once(silent, 'listening');
    const args = ['serve', '--detach', ...listen, `nbd+unix:///?socket=${path}`];
    const begun = async (): Promise<number> => {
      for (;;) {
        const [one] = await place.list();
        if (one) return one.pid;
      }
    };
    const gone = async (pid: number): Promise<void> => {
      while (lives(pid)) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    for (const [signal, status] of [
      ['SIGKILL', null],
      ['SIGINT', 130],
    ] as const) {
      const waiting = place.spawn(...args);
      const pid = await begun();
      const ended = once(waiting, 'close');
      waiting.kill(signal);
      expect((await ended)[0]).toBe(status);
      await gone(pid);
    }
    const waiting = place.farbus(...args);
    process.kill(await begun(), 'SIGKILL');
    expect(await waiting).toEqual({
      code: 137,
      stdout: '',
      stderr: 'farbus: the detached process is not ready: a signal (9) ended it\n',
    });
    const stopped = place.farbus(...args);
    await begun();
    expect((await place.farbus('stop', 'server')).code).toBe(0);
    expect(await stopped).toMatchObject({ code: 143, stderr: expect.stringContaining('it was ended') });
    expect(await place.list()).toEqual([]);
  });
});

describe('farbus run', () => {
  const booted = ['--snapshot-after', 'ready', '--engine', 'v86'];

  it('--detach returns when the guest is up, and farbus console reaches it', async () => {
    const place = new Processes();
    writeFileSync(place.image, bootRecord('up and ready\r\n'));
    const drive = ['--bios', '--drive', `${place.image},bus=ide`, '--drive', 'memory:1M,cdrom', ...booted];
    const { code, stdout } = await place.farbus('run', '--detach', ...drive, '--name', 'tiny');
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'tiny\nfarbus screenshot tiny --text\nfarbus console tiny\n' });
    expect(await place.list()).toMatchObject([{ name: 'tiny', kind: 'computer', state: 'running' }]);
    const console = place.spawnPiped('console', 'tiny');
    let seen = '';
    console.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    while (!seen.includes('up and ready')) await once(console.stdout, 'data');
    expect((await place.farbus('logs', 'tiny', '--console')).stdout).toContain('up and ready');
    // The line of the start names the engine.
    expect((await place.farbus('logs', 'tiny')).stdout).toMatch(/ starts on v86$/m);
    expect((await place.farbus('status', 'tiny')).stdout).toContain('\n  engine       v86\n');
    // ps and the log follow a change of the medium.
    expect((await place.farbus('media', 'tiny', 'eject')).stdout).toBe('ejected drive 1\n');
    expect((await place.list())[0]!.uses).toEqual([`${place.image},bus=ide`, 'drive 1: empty']);
    expect((await place.farbus('media', 'tiny', 'insert', 'memory:2M')).code).toBe(0);
    expect((await place.list())[0]!.uses[1]).toBe('memory:2M,cdrom');
    expect((await place.farbus('logs', 'tiny')).stdout).toMatch(
      /drive 1: ejected memory:1M,cdrom\n[^]*drive 1: inserted memory:2M\n/,
    );
    const left = once(console, 'close');
    expect((await place.farbus('stop', 'tiny')).stdout).toBe('tiny has ended\n');
    // The console ends with the computer, and says so.
    await left;
    expect(await place.farbus('run', '--detach', '--exec', 'true')).toMatchObject({ code: 2 });
  });

  it('--config takes a computer of a site file, which options override', async () => {
    const place = new Processes();
    writeFileSync(place.image, bootRecord('up and ready\r\n'));
    const file = join(place.folder, 'site.yaml');
    const system = 'system: { bios: true, ready: ready }';
    writeFileSync(
      file,
      `computers:\n  desk: { role: client, memory: 64M, ${system}, drives: ['d.img,bus=ide'] }\n` +
        `  other: { role: client, ${system}, drives: ['memory:1M,bus=ide'] }\n`,
    );
    expect((await place.farbus('run', '--config', file)).stderr).toMatch(
      /has several computers: give --computer with one of desk, other\n$/,
    );
    expect((await place.farbus('run', '--config', file, '--computer', 'dsk')).stderr).toContain('did you mean desk?');
    expect((await place.farbus('run', '--config', join(place.folder, 'none', 'x.yaml'))).code).toBe(2);
    const one = await place.farbus('run', '--config', file, '--computer', 'desk', '--detach');
    expect(one).toMatchObject({ code: 0, stdout: expect.stringMatching(/^desk\n/) });
    // The file's drives are relative to it; those of the command line replace them.
    expect(await place.list()).toMatchObject([{ name: 'desk', uses: [`${place.image},bus=ide`] }]);
    expect((await place.farbus('stop', 'desk')).code).toBe(0);
    const drive = ['--drive', `${place.image},bus=ide,read-only`, '--name', 'mine'];
    const two = await place.farbus('run', '--config', file, '--computer', 'other', '--detach', ...drive);
    expect(two).toMatchObject({ code: 0, stdout: expect.stringMatching(/^mine\n/) });
    expect(await place.list()).toMatchObject([{ name: 'mine', uses: [`${place.image},bus=ide,read-only`] }]);
    expect((await place.farbus('stop', 'mine')).code).toBe(0);
  });
});
