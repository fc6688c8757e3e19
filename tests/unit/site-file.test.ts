/**
 * Site files: their meaning, and refusals with file, line and expectation before anything starts.
 */
import { copyFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { systemOf } from '../../src/app/site/computer.js';
import { engineOf } from '../../src/app/site/engine.js';
import { loadSite } from '../../src/app/site/load.js';
import type { SitePlan } from '../../src/site/plan.js';
import { macOf, readSite } from '../../src/app/config/site.js';
import { tempFolder } from '../support/temp.js';

const none = (): void => undefined;

function read(text: string): SitePlan {
  return readSite('site.yaml', text, { name: 'site', checkFile: none });
}

const good = `
segments:
  lan: { mtu: 9000 }
  wan: { via: 'vxlan:42/192.0.2.7' }
computers:
  store:
    role: server
    network: lan
    address: 10.0.0.2/24
    system: { with: [tcpdump, nvme-cli] }
    devices:
      disk: { source: a.img, local: true, lease: local }
      other: { source: b.img, aoe: 7.10 }
  desk:
    role: client
    network: lan
    memory: 256M
    mac: 02:00:00:00:00:07
    reconnect: 5
    drives:
      - c.img,read-only
      - far: store/other
        bus: ahci
        assume-same: true
`;

describe('a site file', () => {
  it('names the gateways of a disk in one text, or in a list', () => {
    const site = (drive: string) => `computers:\n  desk: { role: client, drives: [${drive}] }\n`;
    const drives = (drive: string) => read(site(drive)).computers[0]!.drives;
    const one = drives("'nbds://a,b:10810/disk?x-detect=2,read-only'");
    expect(one).toMatchObject([{ kind: 'text', text: 'nbds://a,b:10810/disk?x-detect=2,read-only' }]);
    const list = "['nbds://a/disk?x-detect=2,read-only', 'nbds://b:10810/disk?x-detect=2,read-only']";
    expect(drives(list)).toEqual(one);
    for (const wrong of ['[nbd://a/x, nbd://b/y]', '[nbd://a/x, nbds://b/x]', '[a.img, b.img]', '[]']) {
      expect(() => drives(wrong), wrong).toThrow(
        'site.yaml:2: computers.desk.drives[0]: expected addresses of gateways that differ in host and port only',
      );
    }
  });

  it('describes computers and segments, with defaults for the rest', () => {
    const { computers, ...site } = read(good);
    expect(site).toMatchObject({
      name: 'site',
      processes: 'each',
      segments: [
        { name: 'lan', mtu: 9000, via: undefined },
        { name: 'wan', mtu: 1450, via: 'vxlan:42/192.0.2.7' },
      ],
    });
    expect(computers[0]).toMatchObject({
      role: 'server',
      memory: undefined,
      system: { debian: 12, with: ['tcpdump', 'nvme-cli'] },
      mac: macOf('site', 'store'),
      drives: [{ kind: 'own', device: 'disk' }],
      devices: [
        { name: 'disk', aoe: { shelf: 1, slot: 0 }, lease: 'local' },
        { name: 'other', aoe: { shelf: 7, slot: 10 }, lease: undefined },
      ],
    });
    expect(computers[1]).toMatchObject({
      memory: 256 << 20,
      mac: Uint8Array.of(2, 0, 0, 0, 0, 7),
      reconnectSeconds: 5,
      drives: [
        { kind: 'text', text: 'c.img,read-only' },
        {
          kind: 'far',
          name: 'store/other',
          aoe: { shelf: 7, slot: 10 },
          bus: 'ahci',
          readOnly: false,
          assumeSame: true,
        },
      ],
    });
  });

  it('names an engine for all computers, or for one', () => {
    const { computers } = read(
      'engine: kvm\ncomputers:\n  a: {role: client, cpus: 4, memory: 2G}\n  b: {role: client, engine: v86}\n',
    );
    expect(computers[0]).toMatchObject({ engine: 'kvm', processors: 4, memory: 2 ** 31 });
    expect(computers[1]).toMatchObject({ engine: 'v86', processors: 1 });
    expect(read('computers:\n  a: {role: client}\n').computers[0]!.engine).toBeUndefined();
  });

  it('boots a computer by UEFI on KVM, with its variables in a file or beside an overlay', () => {
    const uefi = (drives: string, more = '') =>
      read(`computers:\n  a: {role: client, drives: [${drives}], system: {uefi: true${more}}}\n`).computers[0]!;
    const plan = uefi("'a.img,overlay=a.changes'");
    expect(plan.engine).toBe('kvm');
    expect(systemOf(plan, 'amd64')).toMatchObject({ firmware: 'uefi', uefiVariables: 'a.changes.uefi-vars' });
    const named = uefi("'a.img,overlay=a.changes'", ', uefi-vars: own.vars');
    expect(systemOf(named, 'amd64')).toMatchObject({ firmware: 'uefi', uefiVariables: 'own.vars' });
    expect(systemOf(uefi('a.img'), 'amd64')).toMatchObject({ firmware: 'uefi', uefiVariables: undefined });
  });

  it('refuses an engine that cannot do what the computer needs', () => {
    const engineHere = (text: string, env = {}) => engineOf(read(text).computers[0]!, env);
    const free = 'computers:\n  a: {role: client, system: {debian: 11}}\n';
    expect(() => engineHere(free, { FARBUS_ENGINE: 'kvm' })).toThrow('a: the KVM engine cannot do debian: 11 yet');
    const large = 'computers:\n  a: {role: client, memory: 2G}\n';
    const refusal = expect.objectContaining({
      kind: 'usage',
      message: 'a: the v86 engine can have 1 GiB of memory: take less, or --engine kvm',
    });
    expect(() => engineHere(large, { FARBUS_ENGINE: 'v86' })).toThrow(refusal);
  });

  it('gives every computer its own address, the same at every start', () => {
    expect(macOf('a', 'x')).toEqual(macOf('a', 'x'));
    const all = new Set(
      ['a', 'b', 'c', 'd'].flatMap((site) => ['x', 'y', 'z'].map((name) => macOf(site, name).join())),
    );
    expect(all.size).toBe(12);
  });

  const server = 'computers:\n  s: {role: server, network: lan, devices: {d: {source: x}}}\n';
  it.each<[text: string, message: string]>([
    ['', 'site.yaml:1: expected a mapping with name, processes, engine, segments, computers, found nothing'],
    ['segments: {}\n', 'site.yaml:1: expected computers'],
    ['computers: {}\n', 'site.yaml:1: computers: expected at least one computer'],
    ['computers:\n  a: {}\n', 'site.yaml:2: computers.a: expected role: client or role: server'],
    ['computers:\n  a:\n    role: boss\n', 'site.yaml:3: computers.a.role: expected client or server, found "boss"'],
    [
      'computers:\n  a:\n    rôle: x\n',
      'site.yaml:3: computers.a.rôle: this key is not known here: expected role, memory',
    ],
    ['computers:\n  a: {role: client}\n  a: {role: client}\n', 'site.yaml:3: a key is there twice'],
    ['computers:\n  a: [\n', 'site.yaml:3: '],
    ['computers:\n  "a b": {role: client}\n', 'site.yaml:2: computers.a b: expected a name of letters'],
    ['computers:\n  a: {role: client, memory: 1M}\n', 'computers.a.memory: expected a size from 64M to 8192M'],
    [
      'computers:\n  a: {role: client, engine: v86, memory: 2G}\n',
      'computers.a.memory: expected a size from 64M to 1024M',
    ],
    ['engine: qemu\ncomputers:\n  a: {role: client}\n', 'site.yaml:1: engine: expected v86 or kvm or auto'],
    [
      'engine: kvm\ncomputers:\n  a: {role: client, system: {debian: 11}}\n',
      'site.yaml:3: computers.a: engine: the KVM engine cannot do debian: 11 yet: leave it out, or take v86',
    ],
    [
      'computers:\n  a: {role: client, engine: kvm, system: {debian: 11}}\n',
      'site.yaml:2: computers.a: engine: the KVM engine cannot do debian: 11 yet',
    ],
    [
      'engine: v86\ncomputers:\n  a: {role: client, cpus: 2}\n',
      'site.yaml:3: computers.a: cpus: the v86 engine has one processor',
    ],
    [
      'computers:\n  a: {role: client, system: {with: tcpdump}}\n',
      'site.yaml:2: computers.a.system.with: expected a list of packages, found "tcpdump"',
    ],
    [
      'computers:\n  a: {role: client, system: {with: [../x]}}\n',
      'computers.a.system.with[0]: expected the name of a Debian package, for example tcpdump, found "../x"',
    ],
    [
      'computers:\n  a: {role: client, system: {with: [tcpdump], kernel: k}}\n',
      "computers.a.system.with: expected kernel and initrd, or packages with Debian's own system",
    ],
    ['computers:\n  a:\n    role: client\n    network: lan\n', 'there is no segment lan; segments are: none'],
    [
      `segments: {lan: {}}\n${server}  c: {role: client, network: lan, drives: [{far: s/d, assume-same: yes please}]}\n`,
      'computers.c.drives[0].assume-same: expected true or false',
    ],
    ['computers:\n  a: {role: server}\n', 'site.yaml:2: computers.a: expected network: the name of a segment'],
    [
      `segments: {lan: {mtu: 10}}\n${server}`,
      'site.yaml:1: segments.lan.mtu: expected a whole number from 68 to 65000',
    ],
    [`segments: {lan: {mtu: 500}}\n${server}`, 'site.yaml:3: computers.s.devices.d: frames of lan carry no sector'],
    [
      `segments: {lan: {}}\n${server}  c: {role: client, network: lan, drives: [{far: s/e}]}\n`,
      'site.yaml:4: computers.c.drives[0].far: s has no device e',
    ],
    [
      `segments: {lan: {}}\n${server}  c: {role: client, network: lan, drives: [{far: t/d}]}\n`,
      'there is no computer t in this site',
    ],
    [
      `segments: {lan: {}, wan: {}}\n${server}  c: {role: client, network: wan, drives: [{far: s/d}]}\n`,
      's is on the segment lan, c on wan',
    ],
    [
      `segments: {lan: {}}\n${server}  c: {role: client, network: lan, drives: [{far: s/d}]}\n  d: {role: client, network: lan, drives: [{far: s/d}]}\n`,
      'site.yaml:5: computers.d.drives[0]: writing to s/d is taken already: by c',
    ],
    [
      `segments: {lan: {}}\n${server}  t: {role: server, network: lan, devices: {d: {source: x}}}\n`,
      'computers.t.devices.d: the device x is taken already: by s/d',
    ],
    [
      `segments: {lan: {}}\n${server}  t: {role: server, network: lan, devices: {d: {source: y, aoe: 1.0}}}\n`,
      'AoE 1.0 on lan is taken already: by s/d',
    ],
    [
      `segments: {lan: {}}\n${server}  t: {role: server, network: lan, devices: {d: {source: y, lease: local}}}\n`,
      'there is nothing to share: it needs local: true',
    ],
    [
      `segments: {lan: {}}\ncomputers:\n  a: {role: client, network: lan, address: 10.0.0.1/24}\n  b: {role: client, network: lan, address: 10.0.0.1/24}\n`,
      'site.yaml:4: computers.b: 10.0.0.1 on lan is taken already: by a',
    ],
    [
      `segments: {lan: {}}\ncomputers:\n  a: {role: client, network: lan, address: 10.0.0.1/40}\n`,
      'expected an IPv4 address and the length of its prefix',
    ],
    [
      `computers:\n  a:\n    role: client\n    drives: [${Array.from({ length: 23 }, (_, i) => `d${i}`).join()}]\n`,
      'a computer can have 22 drives, not 23',
    ],
    [
      `segments: {lan: {}}\n${server}  t: {role: server, network: lan, devices: {d: {source: 'raw:.//x'}}}\n`,
      'site.yaml:4: computers.t.devices.d: the device x is taken already: by s/d',
    ],
    [
      'computers:\n  a: {role: client, snapshot: one.snap}\n  b: {role: client, snapshot: ./one.snap}\n',
      'site.yaml:3: computers.b: the snapshot one.snap is taken already: by a',
    ],
    ...['bios: true', 'uefi: true', 'kernel: k', 'initrd: i'].map((system): [string, string] => [
      `computers:\n  a: {role: client, snapshot: one.snap, system: {${system}}}\n`,
      'site.yaml:2: computers.a: snapshot: expected ready below system: what its system prints when it is up',
    ]),
    [
      'computers:\n  a:\n    role: client\n    drives:\n      - a,bus=ide\n      - b,bus=ide\n      - c,bus=ide\n',
      'site.yaml:7: computers.a.drives[2]: the bus ide has room for 2 disks',
    ],
    ['computers:\n  a:\n    role: client\n    devices: {d: {source: x}}\n', 'only a server has devices that it serves'],
    [
      'computers:\n  a:\n    role: client\n    system:\n      bios: true\n      append: quiet\n',
      'site.yaml:6: computers.a.system.append: bios: true boots what is on the drives: leave this out',
    ],
    [
      'computers:\n  a:\n    role: client\n    system:\n      bios: true\n      uefi: true\n',
      'site.yaml:6: computers.a.system.uefi: expected bios or uefi, not both',
    ],
    [
      'computers:\n  a:\n    role: client\n    system:\n      uefi: true\n      kernel: k\n',
      'site.yaml:6: computers.a.system.kernel: uefi: true boots what is on the drives: leave this out',
    ],
    [
      'computers:\n  a:\n    role: client\n    system:\n      uefi-vars: v\n',
      'site.yaml:5: computers.a.system.uefi-vars: expected uefi: true with it',
    ],
    [
      'engine: v86\ncomputers:\n  a: {role: client, system: {uefi: true}}\n',
      'site.yaml:3: computers.a: system.uefi: the v86 engine has no UEFI: take engine: kvm for this computer',
    ],
    [
      'computers:\n  a: {role: client, system: {uefi: true, uefi-vars: v}}\n  b: {role: client, system: {uefi: true, uefi-vars: ./v}}\n',
      'site.yaml:3: computers.b: the file v is taken already: by a',
    ],
    ['computers: &a\n  x: *a\n', 'this key is not known here'],
  ])('%j is refused', (text, message) => {
    expect(() => read(text)).toThrow(FarbusError);
    expect(() => read(text)).toThrow(message);
  });

  it('names a file that is not there, with the line', () => {
    const missing = () => {
      throw new FarbusError('there is no file a.img');
    };
    const options = { name: 'site', checkFile: missing };
    expect(() => readSite('site.yaml', good, options)).toThrow(
      'site.yaml:12: computers.store.devices.disk.source: there is no file a.img',
    );
  });

  it('fails only with a one-line error, whatever it contains', () => {
    const words = fc.constantFrom(
      ...good.split(/\b/),
      '&a',
      '*a',
      '<<',
      '!!binary x',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '\0',
    );
    fc.assert(
      fc.property(fc.array(words, { maxLength: 60 }), (parts) => {
        try {
          read(parts.join(''));
        } catch (error) {
          expect(error).toBeInstanceOf(FarbusError);
          expect((error as Error).message).toMatch(/^site\.yaml/);
        }
      }),
      { numRuns: process.env['FARBUS_TEST_ALL'] ? 20_000 : 1000 },
    );
  });

  it('the examples are valid', async () => {
    const folder = fileURLToPath(new URL('../../examples/', import.meta.url));
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    expect(files.length).toBeGreaterThanOrEqual(3);
    // Do what the file's own comments tell the reader to do first.
    const made = tempFolder();
    writeFileSync(join(made, 'debian.img'), '');
    const before = process.cwd();
    process.chdir(made);
    for (const file of files) {
      copyFileSync(join(folder, file), join(made, file));
      expect((await loadSite(join(made, file))).computers.length).toBeGreaterThanOrEqual(2);
    }
    process.chdir(before);
  });
});
