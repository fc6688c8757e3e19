/**
 * GNU Mach, which is not Linux, on far disks with its own AHCI and IDE drivers. The kernel is
 * Debian's, unmodified; its only task is tests/guests/mach/task.c. It boots once, as a user boots
 * it (`farbus run --bios`), from a far CD. Its disks come over NBD; with FARBUS_TEST_ALL others
 * come over AoE, SFTP and dd.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freeUdpPort } from '../support/aoe.js';
import { Mach, machPattern, machTools, makeMachDisc } from '../support/mach.js';
import { missing } from '../support/nbd-peers.js';
import { ServeProcess } from '../support/server.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempFolder } from '../support/temp.js';
import { sha256 } from '../support/sha256.js';

/** Time limit in ms. An emulated computer on a busy machine is slow. */
const timeout = 200_000;
const skipped = machTools.map(missing).includes(true);
const all = Boolean(process.env['FARBUS_TEST_ALL']);
if (!all) console.warn('GNU Mach on disks over AoE, SFTP and dd: with FARBUS_TEST_ALL only (npm run test:all)');
const sectors = 4 << 11;
const sata = randomBytes(sectors * 512);
const ide = randomBytes(1 << 20);
/** Images of disks that come over protocols other than NBD. */
const others = all ? ['aoe.img', 'sftp.img', 'dd.img'] : [];

let folder: string;
let server: ServeProcess;
let mach: Mach;
const closing: (() => Promise<unknown>)[] = [];

/** The content of an image's sectors, read by the host. */
function stored(name: string, first: number, count: number): Buffer {
  return readFileSync(join(folder, name)).subarray(first * 512, (first + count) * 512);
}

/** Disks on AHCI over AoE (a segment with two ends, over UDP), and over SFTP and dd by ssh. */
async function otherWays(): Promise<{ drives: string[]; env: Record<string, string> }> {
  for (const name of others) writeFileSync(join(folder, name), randomBytes(1 << 20));
  const [here, there] = [await freeUdpPort(), await freeUdpPort()];
  const listen = ['--listen', `aoe:1.0@udp:127.0.0.1:${there}/127.0.0.1:${here}`];
  const aoe = new ServeProcess(join(folder, 'aoe.sock'), [join(folder, 'aoe.img'), ...listen]);
  await aoe.start();
  closing.push(() => aoe.stop());
  const sshd = await Sshd.start();
  closing.push(() => sshd.stop());
  return {
    drives: [
      `aoe:1.0@udp:127.0.0.1:${here}/127.0.0.1:${there},bus=ahci`,
      `ssh+sftp://test${join(folder, 'sftp.img')},bus=ahci`,
      `ssh+dd://test${join(folder, 'dd.img')},bus=ahci`,
    ],
    env: { FARBUS_SSH: sshd.ssh },
  };
}

describe.skipIf(skipped || (all && cannotSshd() !== undefined))('GNU Mach', { timeout }, () => {
  beforeAll(async () => {
    folder = tempFolder();
    makeMachDisc(join(folder, 'mach.iso'));
    writeFileSync(join(folder, 'sata.img'), sata);
    writeFileSync(join(folder, 'ide.img'), ide);
    const images = ['mach.iso,read-only', 'sata.img', 'ide.img'].map((name) => join(folder, name));
    server = new ServeProcess(join(folder, 'sock'), images);
    await server.start();
    closing.push(() => server.stop());
    const drives = [
      `${server.uri('mach.iso')},cdrom`,
      `${server.uri('sata.img')},bus=ahci`,
      `${server.uri('ide.img')},bus=ide`,
    ];
    const far = all ? await otherWays() : { drives: [], env: {} };
    mach = new Mach([...drives, ...far.drives], far.env);
    closing.push(() => mach.stop());
    await mach.ready();
  }, 400_000);

  afterAll(async () => {
    for (const close of closing.reverse()) await close();
  });

  it('finds the disks with its own drivers', async () => {
    expect(await mach.command('size sd0')).toBe(`${sectors} sectors`);
    expect(await mach.command('size hd0')).toBe(`${ide.length / 512} sectors`);
    expect(await mach.command('size xy0')).toBe('error 2502'); // D_NO_SUCH_DEVICE
  });

  it('reads the right data, by its hash', async () => {
    expect(await mach.command(`hash sd0 0 ${sectors}`)).toBe(sha256(sata));
    expect(await mach.command('hash sd0 13 7')).toBe(sha256(sata.subarray(13 * 512, 20 * 512)));
    expect(await mach.command(`hash hd0 0 ${ide.length / 512}`)).toBe(sha256(ide));
  });

  it('writes sectors, and the host finds them there and nowhere else', async () => {
    for (const [disk, image, before] of [
      ['sd0', 'sata.img', sata],
      ['hd0', 'ide.img', ide],
    ] as const) {
      const written = machPattern(1001, 333, 42);
      expect(await mach.command(`fill ${disk} 1001 333 42`)).toBe(sha256(written));
      written.copy(before, 1001 * 512);
      expect(sha256(readFileSync(join(folder, image)))).toBe(sha256(before));
    }
  });

  it('copies from one far disk to another', async () => {
    const hash = sha256(ide.subarray(0, 600 * 512));
    expect(await mach.command('copy hd0 0 sd0 5000 600')).toBe(hash);
    expect(sha256(stored('sata.img', 5000, 600))).toBe(hash);
  });

  it.each(others)('reads and writes a disk over another protocol: %s', async (image) => {
    const disk = `sd${others.indexOf(image) + 1}`;
    const known = readFileSync(join(folder, image));
    expect(await mach.command(`hash ${disk} 0 ${known.length / 512}`)).toBe(sha256(known));
    machPattern(77, 200, 5).copy(known, 77 * 512);
    await mach.command(`fill ${disk} 77 200 5`);
    const copied = known.subarray(77 * 512, 377 * 512);
    copied.copy(known, 1000 * 512);
    expect(await mach.command(`copy ${disk} 77 ${disk} 1000 300`)).toBe(sha256(copied));
    expect(sha256(readFileSync(join(folder, image)))).toBe(sha256(known));
  });

  it('gets an error beyond the end of a disk', async () => {
    expect(await mach.command(`hash sd0 ${sectors} 8`)).toMatch(/^error /);
    expect(await mach.command(`fill sd0 ${sectors - 4} 8 1`)).toMatch(/^error /);
    expect(await mach.command('hash sd0 13 7')).toBe(sha256(sata.subarray(13 * 512, 20 * 512)));
  });

  it('waits while the server is killed and started again', async () => {
    await mach.begin(`fill sd0 0 ${sectors} 7`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await server.stop('SIGKILL');
    await server.start();
    const written = machPattern(0, sectors, 7);
    expect(await mach.end()).toBe(sha256(written));
    expect(sha256(stored('sata.img', 0, sectors))).toBe(sha256(written));
  });
});
