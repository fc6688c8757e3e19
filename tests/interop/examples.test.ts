/**
 * Every example of README, the docs and the help: its command line is read by the command's own
 * parser, and it is run on the loopback with small disks, or a table says why it is not.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseSource } from '../../src/app/source-text.js';
import { loadCommands } from '../../src/cli/commands/registry.js';
import { parseOptions } from '../../src/cli/options.js';
import type { Given, Options } from '../../src/cli/table.js';
import { allExamples, farbusCommands } from '../support/examples.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { farbusFile, startFarbus, type Started } from './farbus.js';

/** The first pattern that matches an example says why it is not run here. */
const notRun: readonly (readonly [RegExp, string])[] = [
  [/^npm /, 'needs a fresh clone: tests/boot/bare-system.test.ts, tests/interop/package.test.ts'],
  [/^(ip|bridge) /, 'changes the network of this computer: tests/interop/vxlan.test.ts has a namespace'],
  [/rbd:/, 'needs a Ceph cluster'],
  [/^nbdinfo 'nbds:|endpoint=client|^nbdkit --tls/, 'needs a server with TLS: tests/interop/tls.test.ts'],
  [/^farbus demo/, 'boots two computers: tests/boot/demo.test.ts'],
  [/^farbus run /, 'boots a guest: tests/boot has such starts'],
  [/^farbus guest-disk /, 'fetches 85 MB of packages: tests/boot/diskless.test.ts'],
  [/^farbus up (?!--check)/, 'boots the computers of a site: tests/boot/site.test.ts'],
  [
    /^farbus (down|exec|console|logs|lease|stop|screenshot|type|media|drive|pause|resume|snapshot|status desk|status --take)/,
    'needs a running computer, site or server: tests/interop and tests/boot',
  ],
  [/aoe:/, 'needs a network card of its own: tests/interop/aoe-linux.test.ts'],
  [/ssh:\/\//, 'needs a server for ssh: tests/interop/ssh-kill.test.ts, tests/conformance/ssh-*.test.ts'],
  [/(https|s3):\/\//, 'needs a server of the web: tests of HTTP sources'],
  [/qemu-system/, 'starts an operating system: tests/interop/attach-boot.test.ts'],
  [/^farbus (copy|info) 'nbds:/, 'needs a server with TLS: tests/interop/tls.test.ts'],
  [
    /serve.* (\/dev\/sr0|--tls-psk)/,
    'needs a drive, or keys: tests/interop/tls.test.ts, tests/unit/storage-removable.test.ts',
  ],
  [/^farbus token --revoke/, 'needs a token: tests/interop/web-serve.test.ts'],
  [/\/sys\/block\//, 'changes a disk of this computer: it is meant for a guest'],
  [/fish \|/, 'needs fish: tests/unit/help.test.ts'],
];

const examples = await allExamples();
const commands = new Map((await loadCommands()).map((command) => [command.name, command]));

/** Parses a command line as far as it depends on nothing but its words. */
function parse([name, ...args]: readonly string[]): void {
  const command = commands.get(name!);
  expect(command, `farbus ${name}`).toBeDefined();
  const { values, operands } = parseOptions(command!, args) as Given<Options>;
  if (name === 'run') for (const source of values['drive'] as unknown as readonly string[]) parseSource(source);
  if (command!.operands !== 'source' || name === 'media' || name === 'drive') return;
  for (const source of operands) parseSource(source.replace(/^\w+=/, ''));
}

describe('the examples', () => {
  it('are found', () => {
    expect(examples.length).toBeGreaterThan(100);
    expect(new Set(examples.map(({ page }) => page)).size).toBeGreaterThan(30);
  });

  it.each(examples.filter(({ line }) => farbusCommands(line).length > 0).map(({ page, line }) => [line, page]))(
    '%s has options and sources that its command takes (%s)',
    (line) => {
      const found = farbusCommands(line);
      for (const words of found) parse(words);
    },
  );

  it('that are not run have a reason, and each reason has an example', () => {
    for (const [pattern, reason] of notRun) {
      expect(
        examples.some(({ line }) => pattern.test(line)),
        `${pattern}: ${reason}`,
      ).toBe(true);
    }
  });
});

const lacking = ['qemu-img', 'nbdcopy', 'nbdinfo'].some(missing);
const runs = [...new Set(examples.map(({ line }) => line))].filter(
  (line) => !notRun.some(([pattern]) => pattern.test(line)),
);

describe.skipIf(lacking)('the example', () => {
  const folder = tempFolder();
  const env = {
    ...process.env,
    HOME: folder,
    XDG_RUNTIME_DIR: join(folder, 'run'),
    XDG_CACHE_HOME: join(folder, 'cache'),
  };
  let server: Started | undefined;
  let port = 0;
  let folders = 0;

  beforeAll(async () => {
    for (const name of ['run', '.local/share/bash-completion/completions', 'srv']) {
      mkdirSync(join(folder, name), { recursive: true, mode: 0o700 });
    }
    const table = Buffer.alloc(4 << 20);
    // A master boot record with two Linux partitions, each of 2048 sectors.
    for (const number of [0, 1]) {
      table[446 + 16 * number + 4] = 0x83;
      table.writeUInt32LE(2048 * (number + 1), 446 + 16 * number + 8);
      table.writeUInt32LE(2048, 446 + 16 * number + 12);
    }
    table.writeUInt16LE(0xaa55, 510);
    for (const name of [
      'disk.img',
      'other.img',
      'sda',
      'sdb',
      'srv/data.img',
      'first.iso',
      'second.iso',
      'debian.img',
    ]) {
      writeFileSync(join(folder, name), table);
    }
    writeFileSync(join(folder, 'serve.yaml'), 'exports: [{ source: disk.img }]\nlisten: [nbd://127.0.0.1:0]\n');
    writeFileSync(join(folder, 'site.yaml'), 'computers: { desk: { role: client, system: { debian: 12 } } }\n');
    shell('qemu-img create -q -f qcow2 vm.qcow2 4M; farbus certificates --quiet pki localhost');
    server = startFarbus(
      'serve',
      '--read-only',
      '--listen',
      'nbd://127.0.0.1:0',
      `disk1=${folder}/disk.img`,
      `${folder}/disk.img`,
    );
    port = Number((await server.printed(/127\.0\.0\.1:(\d+)/))[1]);
  });

  afterAll(async () => {
    server?.child.kill('SIGTERM');
    await server?.ended;
  });

  /** The line with the disks, servers and ports of this test in place of those that it names. */
  function here(line: string): string {
    return line
      .replaceAll(/nbd:\/\/(server|localhost)\//g, `nbd://127.0.0.1:${port}/`)
      .replaceAll(/\/dev\/sd/g, `${folder}/sd`)
      .replaceAll('/srv/', `${folder}/srv/`)
      .replaceAll('/run/', `${folder}/run/`)
      .replaceAll('/etc/pki/farbus', 'pki')
      .replaceAll('/etc/farbus/', `${folder}/`)
      .replaceAll('nbd://0.0.0.0', 'nbd://127.0.0.1:0')
      .replaceAll('--metrics 9464', '--metrics 0')
      .replaceAll('pki server.example.org', `pki-${++folders} server.example.org`)
      .replace(/farbus serve (?!.*--(listen|config))/, 'farbus serve --listen nbd://127.0.0.1:0 ');
  }

  const start = `farbus() { "${process.execPath}" "${farbusFile}" "$@"; }\n`;

  function shell(line: string) {
    return spawnSync('bash', ['-c', `set -o pipefail\n${start}${line}`], {
      cwd: folder,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Starts a server, ends it when it has printed its address, and gives its exit status. */
  async function serve(line: string): Promise<unknown> {
    const script = line.replace(/^farbus/, `exec "${process.execPath}" "${farbusFile}"`);
    const child = spawn('bash', ['-c', script], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const ended = once(child, 'exit');
    await Promise.race([once(child.stdout, 'data'), ended]);
    child.kill('SIGTERM');
    return { status: (await ended)[0], said: said.replace(/^farbus: warning: .*\n/gm, '') };
  }

  it.each(runs)('%s runs', async (line) => {
    const staying = /^farbus (serve|attach [^|]*$)/.test(line) && !/ -- | \| |--detach/.test(line);
    if (staying) return expect(await serve(here(line))).toEqual({ status: 0, said: '' });
    const { status, stderr } = shell(line.includes('while read') ? stopping(here(line)) : here(line));
    // A server in the background would keep its disk locked.
    if (line.includes('--detach')) shell('farbus stop $(farbus ps --quiet)');
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  });

  /** A server in a pipe would run for ever: the reader ends it. */
  function stopping(line: string): string {
    return line.replace('farbus serve', `timeout 5 "${process.execPath}" "${farbusFile}" serve`).replace(/$/, '; true');
  }
});
