/**
 * Logical devices as Linux's own tools see them: Debian packages in the guest's memory (`--with`),
 * one boot for all. The tools use commands that the drivers do not, and report violations of the
 * specifications.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseGuest, createComputer, memoryFor, startGuest } from '../../src/app/computer/start.js';
import type { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { tempFolder } from '../support/temp.js';

const log = { log: () => undefined };
const tools = ['hdparm', 'nvme-cli', 'sg3-utils', 'smartmontools'];
const drives: ClientDrive[] = [
  { device: new MemoryDevice(64 << 20), bus: 'nvme', serial: 'TOOL-NVME', model: 'Tool NVMe' },
  { device: new MemoryDevice(64 << 20), bus: 'ahci', serial: 'TOOL-SATA', model: 'Tool SATA' },
  { device: new MemoryDevice(4 << 20, { readOnly: true }), bus: 'ahci', kind: 'cdrom' },
  { device: new MemoryDevice(32 << 20), bus: 'ahci', kind: 'removable' },
  { device: new MemoryDevice(16 << 20), bus: 'ide', serial: 'TOOL-IDE', model: 'Tool IDE' },
];

let computer: ClientComputer;
/** The guest's names of the drives, by model. */
const names = new Map<string, string>();

beforeAll(async () => {
  const guest = await chooseGuest({ ahci: true, ide: true, tools, log });
  const memory = memoryFor(guest, undefined, 256 << 20);
  computer = await createComputer(drives, memory, { log });
  await startGuest(computer, guest, join(tempFolder(), 'guest.snapshot'), memory);
  await ran(
    'i=0; until [ $(ls /dev/sd? /dev/sr? 2>/dev/null | wc -l) -ge 4 ]; do i=$((i+1)); [ $i -lt 60 ]; sleep 1; done',
  );
  const found = await ran('for d in /dev/sd? /dev/sr?; do echo "$d $(cat /sys/block/${d#/dev/}/device/model)"; done');
  for (const [, name, model] of found.matchAll(/^(\S+) (.*?) *$/gm)) names.set(model!, name!);
}, 500_000);

afterAll(() => computer?.stop());

describe('an NVMe disk', () => {
  it('is listed with its name, size and format', async () => {
    const list = await ran('nvme list');
    expect(list).toMatch(/\/dev\/nvme0n1 .*TOOL-NVME +Tool NVMe .* 67\.11 +MB .* 512 +B \+ +0 B +1\.0/);
    expect(await ran('nvme list-ns /dev/nvme0')).toMatch(/\]:0x1\n$/);
  });

  it('nvme id-ctrl and id-ns show its identity and abilities', async () => {
    const controller = fields(await ran('nvme id-ctrl /dev/nvme0'));
    expect(controller).toMatchObject({
      sn: 'TOOL-NVME',
      mn: 'Tool NVMe',
      fr: '1.0',
      mdts: '9',
      ver: '0x10400',
      nn: '1',
    });
    expect(controller).toMatchObject({ cntrltype: '1', oncs: '0xc', vwc: '0x7', lpa: '0x6', elpe: '15' });
    expect(controller['subnqn']).toBe('nqn.2026-11.org.farbus:nvme:TOOL-NVME');
    const namespace = await ran('nvme id-ns /dev/nvme0n1');
    expect(fields(namespace)).toMatchObject({
      nsze: '0x20000',
      ncap: '0x20000',
      nuse: '0x20000',
      nlbaf: '0',
      flbas: '0',
    });
    expect(namespace).toMatch(/lbaf +0 : ms:0 +lbads:9 +rp:0 \(in use\)/);
    const descriptors = fields(await ran('nvme ns-descs /dev/nvme0n1'));
    expect(descriptors['nguid']).toBe(descriptors['uuid']!.replaceAll('-', ''));
  });

  it('nvme smart-log counts reads and writes, and has no warnings', async () => {
    const before = fields(await ran('nvme smart-log /dev/nvme0'));
    expect(before).toMatchObject({
      critical_warning: '0',
      available_spare: '100%',
      percentage_used: '0%',
      media_errors: '0',
    });
    await ran('dd if=/dev/zero of=/dev/nvme0n1 bs=64k count=64 oflag=direct 2>/dev/null');
    await ran('dd if=/dev/nvme0n1 of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null');
    const after = fields(await ran('nvme smart-log /dev/nvme0'));
    expect(Number(after['host_write_commands']) - Number(before['host_write_commands'])).toBe(64);
    expect(Number(after['host_read_commands']) - Number(before['host_read_commands'])).toBeGreaterThanOrEqual(32);
  });
});

/** The ATA disks: their positions, serial numbers and sizes. */
const ataDisks = [
  { bus: 'AHCI', model: 'Tool SATA', serial: 'TOOL-SATA', size: 64 << 20 },
  { bus: 'IDE', model: 'Tool IDE', serial: 'TOOL-IDE', size: 16 << 20 },
];

describe.each(ataDisks)('a disk on $bus', ({ bus, model, serial, size }) => {
  it('hdparm -I shows its identity and abilities', async () => {
    const output = await ran(`hdparm -I ${names.get(model)}`);
    expect(output).toMatch(new RegExp(`Model Number: +${model}`));
    expect(output).toMatch(new RegExp(`Serial Number: +${serial}`));
    expect(output).toMatch(new RegExp(`LBA +user addressable sectors: +${size / 512}`));
    expect(output).toMatch(/Logical(\/Physical| ) ?Sector size: +512 bytes/);
    expect(output).toMatch(/\*\s+Write cache/);
    if (bus === 'IDE') return;
    expect(output).toMatch(/Nominal Media Rotation Rate: Solid State Device/);
    expect(output).toMatch(/Queue depth: 32/);
    for (const feature of [
      '48-bit Address feature set',
      'SMART feature set',
      'Native Command Queueing (NCQ)',
      'FLUSH_CACHE_EXT',
      'Data Set Management TRIM supported (limit 8 blocks)',
      'WRITE_{DMA|MULTIPLE}_FUA_EXT',
      'General Purpose Logging feature set',
      '64-bit World wide name',
      'Gen3 signaling speed (6.0Gb/s)',
    ]) {
      expect(output).toMatch(new RegExp(`\\*\\s+${feature.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`));
    }
    expect(output).toContain('Checksum: correct');
  });

  it('smartctl -i -a finds it', async () => {
    const { output, status } = await tried(`smartctl -i -H -a ${names.get(model)}`);
    expect(output).toMatch(new RegExp(`Device Model: +${model}\\n`));
    expect(output).toMatch(new RegExp(`Serial Number: +${serial}\\n`));
    expect(output).toMatch(new RegExp(`User Capacity: +${size.toLocaleString('en')} bytes`));
    if (bus === 'IDE') {
      // docs/run.md: there is no SMART. The drive says so instead of failing.
      expect(output).toMatch(/SMART support is: Unavailable/);
      return;
    }
    expect(status, output).toBe(0);
    expect(output).toMatch(/SMART support is: Enabled/);
    expect(output).toContain('SMART overall-health self-assessment test result: PASSED');
    expect(output).toMatch(/SMART Error Log Version: 1\nNo Errors Logged/);
    expect(output).toMatch(/SMART Self-test log structure revision number 1\nNo self-tests have been logged/);
    expect(output).not.toMatch(/\bfailed|invalid|warning/i);
  });
});

describe('a CD/DVD drive and a removable disk', () => {
  const kinds = [
    {
      kind: 'a CD/DVD drive',
      model: 'Farbus DVD',
      type: 'cd/dvd',
      page: '>> MM capabilities and mechanical status',
      blocks: (4 << 20) / 2048,
      blockSize: 2048,
    },
    {
      kind: 'a removable disk',
      model: 'Farbus Removable',
      type: 'disk',
      page: '>> Caching, page_control: current',
      blocks: (32 << 20) / 512,
      blockSize: 512,
    },
  ];

  it.each(kinds)(
    '$kind tells sg3-utils its identity, its pages and its size',
    async ({ model, type, page, blocks, blockSize }) => {
      const name = [...names].find(([found]) => found.startsWith(model.slice(0, 16)))?.[1];
      expect(name, [...names].join()).toBeDefined();
      const inquiry = await ran(`sg_inq ${name}`);
      expect(inquiry).toMatch(/RMB=1/);
      expect(inquiry).toMatch(/version=0x05 +\[SPC-3\]/);
      expect(inquiry).toContain('Vendor identification: FARBUS');
      expect(inquiry).toContain(`Peripheral device type: ${type}`);
      expect(await ran(`sg_vpd ${name}`)).toContain('Unit serial number');
      expect(await ran(`sg_vpd -p di ${name}`)).toMatch(/0x3[0-9a-f]{15}/);
      const modes = await ran(`sg_modes -a ${name}`);
      expect(modes).toContain(page);
      const capacity = await ran(`sg_readcap ${name}`);
      expect(capacity).toContain(`Last LBA=${blocks - 1} `);
      expect(capacity).toContain(`Number of logical blocks=${blocks}`);
      expect(capacity).toContain(`Logical block length=${blockSize} bytes`);
      await ran(`sg_luns ${name} && sg_turs ${name}`);
    },
  );
});

/** Parses lines of the form "name : value". */
function fields(output: string): Record<string, string> {
  return Object.fromEntries(
    [...output.matchAll(/^(\w[\w ]*?)\s*: *(.*?) *$/gm)].map(([, name, value]) => [name!, value!]),
  );
}

/** Runs a command that must succeed. */
async function ran(command: string): Promise<string> {
  const { output, status } = await tried(command);
  expect(status, `${command}: ${output}`).toBe(0);
  return output;
}

async function tried(command: string): Promise<{ output: string; status: number }> {
  const { output, status } = await computer.console.run(command, 180_000);
  return { output: output.replaceAll('\r', ''), status };
}
