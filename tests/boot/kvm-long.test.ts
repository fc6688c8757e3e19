/**
 * The long form of kvm.test.ts: the KVM engine with tools that look closely, with a server that is
 * gone for a while, with snapshots under load, and in the demo. Each part starts the lab anew; all
 * together take half an hour.
 */
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { chooseGuest } from '../../src/app/computer/start.js';
import { cacheFolder } from '../../src/guest/cache.node.js';
import { farbusServe, type Serving } from '../interop/nbd-target-farbus.js';
import { cuttingProxy } from '../support/cutting-proxy.js';
import { hostAddress, inKvmLab } from '../support/kvm-lab.js';
import { tempFolder } from '../support/temp.js';

const all = process.env['FARBUS_TEST_ALL'] === '1';
const folder = tempFolder();
const path = (url: string) => fileURLToPath(new URL(url, import.meta.url));
const farbus = `node ${path('../../bin/farbus.js')}`;
const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
const limitMs = 900_000;
const servers: Serving[] = [];
afterAll(() => {
  for (const { child } of servers) child.kill('SIGKILL');
});

/** An empty disk with ext4. */
function disk(name: string, mib: number): string {
  const file = join(folder, name);
  writeFileSync(file, '');
  truncateSync(file, mib << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', file], { env });
  return file;
}

/** Serves files over NBD. Resolves with their addresses on this machine. */
async function serve(...files: string[]): Promise<string[]> {
  const server = await farbusServe(['--listen', 'nbd://127.0.0.1:0', ...files], files.length);
  servers.push(server);
  return files.map((file) => server.lines.find((line) => line.includes(file.split('/').at(-1)!))!);
}

const inLab = (uri: string) => uri.replace('127.0.0.1', hostAddress);

/** Runs a script in the lab. Returns its output. */
async function lab(script: string): Promise<string> {
  const { output, status } = await inKvmLab(script, limitMs - 20_000);
  console.log(output);
  expect(status, output).toBe(0);
  return output;
}

/** The lab cannot write to the cache: prepares a guest's files before. */
const prepare = (parts: { ahci?: boolean; network?: boolean; tools?: string[] }) =>
  chooseGuest({ architecture: 'amd64', ...parts, log: { log: () => undefined } });

/** Complaints of the emulated processor, and of a board without memory-mapped configuration. */
const known = /xstate|XSAVE|CPUID|RIP: |Call Trace|end trace|fail to add MMCONFIG/;

describe.runIf(all)('an amd64 Debian on KVM, at length', () => {
  it(
    'shows nvme, smartctl and lspci devices without an error',
    async () => {
      const tools = ['nvme-cli', 'smartmontools', 'pciutils'];
      await prepare({ ahci: true, tools });
      const [nvme, ahci] = (await serve(disk('tools-nvme.img', 32), disk('tools-ahci.img', 32))).map(inLab);
      const commands = [
        'nvme id-ctrl /dev/nvme0 | grep -E "^(mn|fr|oacs|nn) "',
        'nvme smart-log /dev/nvme0 | grep -E "critical_warning|media_errors|num_err_log"',
        'smartctl -H -i -A /dev/nvme0n1; echo "smart nvme $?"',
        'smartctl -H -i -A /dev/sda; echo "smart ahci $?"',
        'lspci -vv; echo "lspci $?"',
        'dmesg | grep -i -E "error|fail|warn|lost|timeout" | sed "s/^/dmesg: /"',
      ];
      const said = await lab(
        `${farbus} run --engine kvm --memory 512M --with ${tools.join(',')} --drive ${nvme} ` +
          `--drive ${ahci},bus=ahci --exec '${commands.join('; ')}' < /dev/null; echo "status $?"`,
      );
      expect(said).toMatch(/^status 0$/m);
      expect(said).toMatch(/^oacs +: 0x100$/m);
      expect(said).toMatch(/critical_warning\s*: 0$/m);
      expect(said).toMatch(/media_errors\s*: 0$/m);
      for (const part of ['smart nvme 0', 'smart ahci 0', 'lspci 0']) expect(said).toContain(part);
      expect(said.match(/self-assessment test result: PASSED/g)).toHaveLength(2);
      expect(said).toMatch(/MSI-X: Enable\+ Count=/);
      expect(said).toMatch(/MSI: Enable\+ Count=1\/1/);
      expect(said).not.toMatch(/<access denied>|!!!|Unknown header/);
      const complaints = said.split('\n').filter((line) => line.startsWith('dmesg: ') && !known.test(line));
      expect(complaints).toEqual([]);
    },
    limitMs,
  );

  it(
    'writes and verifies on while the server is gone for 20 s',
    async () => {
      await prepare({ tools: ['fio'] });
      const image = disk('cut.img', 64);
      const [uri] = await serve(image);
      const port = Number(/:(\d+)\//.exec(uri!)![1]);
      const proxy = await cuttingProxy(port, 6 << 20, 20_000);
      const job =
        'fio --name=cut --filename=/mnt/data --size=16M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 ' +
        '--direct=1 --verify=crc32c --verify_fatal=1 --fallocate=none';
      const commands = [
        'mkdir -p /mnt && mount /dev/nvme0n1 /mnt',
        `${job} > /tmp/fio 2>&1; echo "fio $?"; grep -E "err=|bad" /tmp/fio`,
        'sha256sum /mnt/data',
        'umount /mnt',
        'dmesg | grep -i -E "error|fail|warn|lost|timeout|reset" | sed "s/^/dmesg: /"',
      ];
      const drive = inLab(uri!).replace(`:${port}/`, `:${proxy.port}/`);
      const said = await lab(
        `${farbus} run --engine kvm --cpus 2 --memory 512M --with fio --reconnect 300 --drive ${drive} ` +
          `--exec '${commands.join('; ')}' < /dev/null; echo "status $?"`,
      );
      proxy.close();
      expect(proxy.cuts()).toBeGreaterThan(0);
      expect(said).toMatch(/^fio 0$/m);
      expect(said).toContain('err= 0');
      const complaints = said.split('\n').filter((line) => line.startsWith('dmesg: ') && !known.test(line));
      expect(complaints).toEqual([]);
      const hash = /^([0-9a-f]{64}) {2}\/mnt\/data$/m.exec(said)![1];
      expect(hashOf(image, 'data')).toBe(hash);
    },
    limitMs,
  );

  it(
    'is saved and continues under load, with two processors, and its disk is right',
    async () => {
      await prepare({ tools: ['fio'] });
      const image = disk('load.img', 64);
      const [uri] = (await serve(image)).map(inLab);
      const program = path('../support/kvm-snapshot-load.mjs');
      const said = await lab(`node ${program} ${path('../../dist')} ${uri}; echo "status $?"`);
      expect(said).toMatch(/^status 0$/m);
      const [, now, then] = /restored: .*fio status 0 2 (\d+) at (\d+)/.exec(said)!;
      expect(Math.abs(Number(now) - Number(then))).toBeLessThan(30);
      expect(Number(/continued (\d+) writes/.exec(said)![1])).toBeGreaterThan(0);
      const data = join(folder, 'load.data');
      execFileSync('fsck.ext4', ['-fn', image], { env });
      execFileSync('debugfs', ['-R', `dump data ${data}`, image], { env });
      const job = '--size=12M --rw=randwrite --bs=4k --verify=crc32c --randseed=7 --verify_only';
      execFileSync('fio', ['--name=load', `--filename=${data}`, ...job.split(' ')], { env, cwd: folder });
    },
    limitMs,
  );

  it(
    'is the 64-bit client of the demo',
    async () => {
      await prepare({ network: true });
      const said = await lab(
        [
          // The server's system, on v86, starts from a snapshot if this machine has run the demo.
          `mkdir /run/cache && cp -rs ${cacheFolder()} /run/cache/ && cd /run`,
          'rm -f /run/cache/farbus/client-demo.snapshot',
          `XDG_CACHE_HOME=/run/cache ${farbus} demo < /dev/null; echo "status $?"`,
        ].join('\n'),
      );
      expect(said).toContain("OS 1, 64-bit on this computer's own processor (KVM)");
      expect(said).toMatch(/OS 1 is up, booted in .*: Linux 6\.1\.\S+-amd64/);
      expect(said).toContain('yes, byte for byte (e2fsck and debugfs)');
      expect(said).toMatch(/^status 0$/m);
    },
    limitMs,
  );
});

/** SHA-256 of a file in an ext4 image, by this machine's tools. */
function hashOf(image: string, name: string): string {
  execFileSync('fsck.ext4', ['-fn', image], { env });
  const data = join(folder, `${name}.dump`);
  execFileSync('debugfs', ['-R', `dump ${name} ${data}`, image], { env });
  return execFileSync('sha256sum', [data]).toString().slice(0, 64);
}
