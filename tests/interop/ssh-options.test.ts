/**
 * Options of ssh in a source's URI, with a real ssh server and what each command composes; and what
 * a configuration file must not give.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus } from './farbus.js';

describe.skipIf(cannotSshd())('options of ssh in the URI', () => {
  let server: Sshd;
  let disk: string;
  let options: string;
  beforeAll(async () => {
    server = await Sshd.start();
    disk = server.file('disk.img');
    writeFileSync(disk, Buffer.alloc(65536, 'farbus'));
    const settings = [`UserKnownHostsFile=${server.file('known_hosts')}`, 'StrictHostKeyChecking=yes'];
    options = [`identity=${server.file('user')}`, ...settings.map((one) => `option=${encodeURIComponent(one)}`)].join(
      '&',
    );
  });
  const direct = (way: string): string => `${way}://${userInfo().username}@127.0.0.1:${server.port}${disk}`;

  it.each(['ssh', 'ssh+dd', 'ssh+sftp'])('%s logs in with the key and options that the URI gives', async (way) => {
    const out = tempPath('out.img');
    const { code, stderr } = await farbus('copy', `${direct(way)}?${options}`, out);
    expect(code, stderr).toBe(0);
    expect(readFileSync(out).equals(readFileSync(disk))).toBe(true);
  });

  it('a configuration names the host', async () => {
    const source = `ssh://test${disk}?config=${server.clientConfig}`;
    const { code, stdout, stderr } = await farbus('info', source);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('64.0 KiB');
    expect((await farbus('info', `${source}&option=Port=1`)).stderr).toMatch(/refused/);
  });

  it('explains a key that is not there, an option that does not exist, and a mistyped word', async () => {
    const said = async (query: string): Promise<string> => (await farbus('info', `${direct('ssh')}?${query}`)).stderr;
    expect(await said(options.replace('/user', '/usr'))).toMatch(/Identity file .*usr not accessible/);
    expect(await said(`${options}&option=Compresion=yes`)).toMatch(/does not take its configuration.*compresion/i);
    expect(await said(`${options}&optoin=x`)).toMatch(/did you mean option\?$/m);
  });
});

describe('a configuration file', () => {
  it.each(['option=ProxyCommand%3D', 'config='])('must not give %s, which could run a command here', async (part) => {
    const folder = tempFolder();
    const [canary, script] = [join(folder, 'canary'), join(folder, 'ssh_config')];
    writeFileSync(script, `Match exec "touch ${canary}"\n`);
    const source = `ssh://host/dev/sdb?${part}${part.startsWith('c') ? script : encodeURIComponent(`touch ${canary}`)}`;
    const [serve, site] = [join(folder, 'serve.yaml'), join(folder, 'site.yaml')];
    writeFileSync(serve, `exports:\n  - source: ${source}\n`);
    writeFileSync(site, `computers:\n  s: { role: server, devices: { d: { source: "${source}" } } }\n`);
    for (const args of [
      ['serve', '--config', serve],
      ['up', site],
    ]) {
      const { code, stderr } = await farbus(...args);
      expect(stderr).toMatch(/yaml:\d: .*could make ssh run commands on this computer, so a file must not give it/);
      expect([code, existsSync(canary)]).toEqual([2, false]);
    }
  });
});
