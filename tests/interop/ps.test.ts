/**
 * `farbus ps` and `farbus stop`: what runs is listed, reached and ended by its name, whatever else
 * is in the folder of control sockets.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { controlFolder } from '../../src/app/control/folder.js';
import { register } from '../../src/app/control/registry.js';
import { siteHandler } from '../../src/app/site/control.js';
import { ConsoleFeed } from '../../src/base/console-feed.js';
import type { Supervisor } from '../../src/site/supervisor.js';
import { Processes } from '../support/processes.js';

const servers = new Set<Server>();
afterAll(() => {
  for (const server of servers) server.close();
});

describe('farbus ps', () => {
  it('lists servers and disks with what they use and how they are reached', async () => {
    const place = new Processes();
    expect(await place.farbus('ps')).toEqual({ code: 0, stdout: 'nothing of farbus runs here\n', stderr: '' });
    await place.serve('--server-name', 'store');
    const disk = await place.start('attach', place.image);
    const all = await place.list();
    expect(all).toEqual([
      expect.objectContaining({ name: 'disk', kind: 'disk', state: 'running', uses: [place.image] }),
      expect.objectContaining({ name: 'store', kind: 'server', state: 'running', uses: ['memory:1M'] }),
    ]);
    expect(all[0]!.reach[0]).toContain('nbd+unix:///');
    expect(all[1]!.reach[0]).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\//);
    const { stdout } = await place.farbus('ps');
    // In a pipe no text is cut.
    for (const { uses, reach } of all) for (const text of [uses[0]!, reach[0]!]) expect(stdout).toContain(text);
    expect(stdout).toContain('store');
    expect((await place.farbus('ps', '--quiet')).stdout).toBe('disk\nstore\n');
    expect((await place.farbus('status', 'disk')).stdout).toContain(`  uses         ${place.image}\n`);
    expect(await place.farbus('screenshot', 'store', '--text')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^farbus: store is a server: [^\n]+\n$/),
    });
    expect(await place.farbus('console', 'disk')).toMatchObject({
      code: 1,
      stderr: 'farbus: disk is a disk: it has no console\n',
    });
    expect(await place.farbus('stop', 'stor', 'disk')).toEqual({
      code: 1,
      stdout: 'disk has ended\n',
      stderr: 'farbus: nothing called "stor" runs here; did you mean store? these run: disk, store\n',
    });
    expect(await disk.ended).toBe(0);
    // The socket's folder is gone: the end was in order.
    expect(readdirSync(place.folder).filter((name) => name.startsWith('farbus-attach'))).toEqual([]);
  });

  it('is followed by farbus stop --all, which ends what it lists, a disk before its server', async () => {
    const place = new Processes();
    const all = await Promise.all([place.serve(), place.start('attach', place.image)]);
    expect((await place.farbus('stop', '--all', 'disk')).code).toBe(2);
    expect(await place.farbus('stop')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('farbus stop NAME... or --all: give a name that farbus ps shows'),
    });
    expect(await place.farbus('stop', '--all')).toEqual({
      code: 0,
      stdout: 'disk has ended\nserver has ended\n',
      stderr: '',
    });
    expect(await Promise.all(all.map(({ ended }) => ended))).toEqual([0, 0]);
    const nothing = { code: 0, stdout: 'nothing of farbus runs here\n', stderr: '' };
    expect(await place.farbus('stop', '--all')).toEqual(nothing);
    expect((await place.farbus('stop', 'disk')).stderr).toBe(
      'farbus: nothing called "disk" runs here, and nothing else of farbus does\n',
    );
  });

  it('survives whatever is in the folder, and names processes that hang', async () => {
    const place = new Processes();
    const folder = controlFolder(place.env);
    const path = (name: string): string => join(folder, name);
    writeFileSync(path('serve-file.1.sock'), 'x');
    mkdirSync(path('serve-folder.1.sock'));
    spawnSync('mkfifo', [path('serve-pipe.1.sock')]);
    writeFileSync(path('serve-\x1b[31m.1.sock'), '');
    writeFileSync(path('serve-../x'.replace('/', '_')), '');
    const endless = await listen(path(`serve-endless.${process.pid}.sock`), () => `{"working":"x"}\n`);
    await listen(path(`attach-garbage.${process.pid}.sock`), () => '\0\x1b[2J\n');
    await listen(path(`site-wrong.${process.pid}.sock`), () => '{"result":{"since":1,"computers":7}}\n');
    symlinkSync(path(`serve-endless.${process.pid}.sock`), path('serve-link.1.sock'));
    const stopped = await place.serve();
    const good = await place.start('attach', place.image);
    stopped.child.kill('SIGSTOP');
    const { code, stdout, stderr } = await place.farbus('ps');
    const names = stdout.split('\n').filter((line) => /^\S/.test(line));
    expect(names.map((line) => /^\S+/.exec(line)![0])).toEqual(['NAME', 'disk', 'endless', 'server']);
    expect(stdout).not.toMatch(/\x1b|\0/);
    expect(stderr).toBe(
      `farbus: no answer within 2 s from endless (process ${process.pid}), server (process ${stopped.child.pid}): was it stopped?\n`,
    );
    expect(code).toBe(1);
    const { code: stopCode, stderr: why } = await place.farbus('stop', 'server', '--timeout', '1');
    expect([stopCode, why]).toEqual([1, expect.stringContaining('no answer within 2 s')]);
    endless.close();
    good.child.kill('SIGKILL');
    stopped.child.kill('SIGKILL');
    await Promise.all([good.ended, stopped.ended]);
    expect(await place.list()).toEqual([]);
  });

  it('prints again only when something changes, if it is watched in a pipe', async () => {
    const place = new Processes();
    const child = place.spawn('ps', '--quiet', '--watch');
    let seen = '';
    child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    const server = await place.serve();
    while (!seen.includes('server')) await new Promise((resolve) => setTimeout(resolve, 50));
    server.child.kill('SIGTERM');
    await server.ended;
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(seen).toMatch(/^(server\n){1,2}$/);
  });
});

describe('A name', () => {
  it('is claimed by one of several that begin at once; by default each gets its own', async () => {
    const place = new Processes();
    const same = await Promise.all([1, 2, 3, 4].map(() => place.serve('--server-name', 'one')));
    expect((await place.list()).map(({ name }) => name)).toEqual(['one']);
    const losers = same.filter(({ said }) => said() !== '');
    expect(losers).toHaveLength(3);
    for (const { ended, said } of losers) {
      expect(await ended).toBe(1);
      expect(said()).toMatch(/^farbus: there is a server called one already \(process \d+\): [^\n]+\n$/);
    }
    await Promise.all([1, 2, 3].map(() => place.serve()));
    const names = (await place.list()).map(({ name }) => name);
    expect(new Set(names).size).toBe(4);
    // Of a killed process, it is free at once.
    const [winner] = same.filter(({ said }) => said() === '');
    winner!.child.kill('SIGKILL');
    await winner!.ended;
    expect((await place.serve('--server-name', 'one')).said()).toBe('');
    expect(await place.farbus('stop', ...names)).toMatchObject({ code: 0 });
  });

  it('that could leave the folder is refused', async () => {
    const place = new Processes();
    for (const name of ['../x', '', '-x', 'a b', 'x'.repeat(41), 'a\x1bb']) {
      const { code, stderr } = await place.farbus('attach', place.image, `--name=${name}`);
      expect({ name, code }).toEqual({ name, code: 2 });
      expect(stderr).toMatch(/^farbus: "[^\n]*" is no name: [^\n]+\n$/);
    }
  });

  it('of a computer of a site is found with the site in front, and alone if one site has it', async () => {
    const place = new Processes();
    const stopped: string[] = [];
    const supervisor = {
      status: [{ name: 'desk', role: 'client', state: 'running', detail: '' }],
      leases: [],
      stopComputer: async (name: string) => void stopped.push(name),
      console: () => new ConsoleFeed(),
    } as unknown as Supervisor;
    const facts = {
      state: 'running',
      uses: [],
      reach: [],
      computers: [{ name: 'desk', state: 'running', uses: [], reach: [] }],
    };
    for (const name of ['one', 'two']) {
      const site = await register({ kind: 'site', name, usual: name, env: place.env, end: () => undefined }, facts);
      site.serve(
        siteHandler(supervisor, '', async () => undefined),
        () => facts,
      );
      if (name === 'one') expect((await place.farbus('stop', 'desk')).stdout).toBe('desk has ended\n');
    }
    expect((await place.farbus('stop', 'desk')).stderr).toBe(
      'farbus: several are called desk: one/desk, two/desk; say which\n',
    );
    expect((await place.farbus('stop', 'two/desk')).stdout).toBe('two/desk has ended\n');
    expect(stopped).toEqual(['desk', 'desk']);
    expect((await place.farbus('lease', 'one')).stderr).toContain('no server of this site shares');
  });
});

/** A process that says the same again and again to every client. */
async function listen(path: string, say: () => string): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    const timer = setInterval(() => socket.write(say()), 100);
    socket.on('close', () => clearInterval(timer));
  });
  servers.add(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}
