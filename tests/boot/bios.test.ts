/**
 * A boot by the firmware without local disks: SeaBIOS starts the GRUB rescue CD from a far CD/DVD
 * drive, and GRUB's own AHCI driver reads a far disk. The test only reads the screen and types
 * keys. Both devices come from `farbus serve`.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { registerComputer } from '../support/computer-control.js';
import { createComputer } from '../../src/app/computer/start.js';
import { Media } from '../../src/app/computer/media.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import type { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import { packageFolder, prepareFirmware } from '../../src/guest/firmware.node.js';
import { farbusHere } from '../support/screen-cli.js';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';

const log = { log: () => undefined };
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
const iso = 'usr/lib/grub-rescue/grub-rescue-cdrom.iso';
const known = randomBytes(300_000);

let folder: string;
let server: ServeProcess;
let computer: ClientComputer;
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  folder = tempFolder();
  const files = join(folder, 'files');
  mkdirSync(files);
  writeFileSync(join(files, 'known'), known);
  const disk = join(folder, 'disk.img');
  writeFileSync(disk, '');
  truncateSync(disk, 8 << 20);
  execFileSync('mkfs.ext2', ['-q', '-F', '-d', files, disk], { env: admin });
  const rescue = join(folder, 'rescue.iso');
  copyFileSync(join(await packageFolder('grub-rescue-pc', [`./${iso}`]), iso), rescue);
  server = new ServeProcess(join(folder, 'sock'), [`${rescue},read-only`, `${disk},read-only`]);
  await server.start();
  const drives: ClientDrive[] = [];
  const media = new Media(drives, { log });
  closing.push(() => media.close());
  for (const text of [`${server.uri('rescue.iso')},cdrom`, `${server.uri('disk.img')},read-only,bus=ahci`]) {
    const drive = await openClientDrive(parseSource(text), { log });
    drives.push(drive);
    media.add(drive.device!, text);
  }
  const firmware = await prepareFirmware();
  computer = await createComputer(drives, 64 << 20, { log, firmware, onEject: media.ejected });
  closing.push(() => computer.stop());
  media.setComputer(computer);
  closing.push(await registerComputer('grub', computer, media, { XDG_RUNTIME_DIR: folder }));
  computer.bootFirmware();
}, 200_000);

afterAll(async () => {
  for (const close of closing.reverse()) await close();
  await server?.stop();
});

const grub = (line: string) => computer.screen!.command(line, /^grub>$/, 30_000);
const farbus = (...args: string[]) => farbusHere(args, folder);

describe('the GRUB rescue CD', () => {
  it('boots from a far CD/DVD drive and accepts keys', async () => {
    await computer.screen!.waitFor(/GNU GRUB/, 120_000);
    expect(await farbus('type', 'grub', 'c')).toMatchObject({ status: 0 });
    await computer.screen!.waitFor(/grub> *$/m, 30_000);
    const { stdout } = await farbus('screenshot', 'grub', '--text');
    expect(stdout).toContain('Minimal BASH-like line editing is supported');
  });

  it('appears in a picture, in text and in graphics modes', async () => {
    const file = join(folder, 'screen.png');
    expect(await farbus('screenshot', 'grub', file)).toMatchObject({ status: 0 });
    const text = readPng(readFileSync(file));
    expect([text.width, text.height]).toEqual([640, 400]);
    expect(text.colors.size).toBeGreaterThan(1);
    // White letters on black: some pixels of the screen, but not most.
    expect(text.lit).toBeGreaterThan(1000);
    expect(text.lit).toBeLessThan((640 * 400) / 4);
    for (const line of ['insmod vbe', 'insmod videotest']) await grub(line);
    await computer.screen!.type('videotest 640x480<enter>');
    await waitUntil(() => computer.screen!.look().kind === 'pixels');
    await waitUntil(async () => {
      await farbus('screenshot', 'grub', file);
      const pixels = readPng(readFileSync(file));
      return pixels.width === 640 && pixels.height === 480 && pixels.lit > 500;
    });
    expect(await farbus('screenshot', 'grub', '--text')).toMatchObject({ status: 1 });
    // GRUB ends the picture at a key press.
    await waitUntil(async () => {
      if (computer.screen!.look().kind === 'pixels') await computer.screen!.type('<space>');
      return (
        computer.screen!.look().kind === 'text' && computer.screen!.text().some((line) => line.startsWith('grub>'))
      );
    });
    await computer.screen!.type('<ctrl-a><ctrl-k>clear<enter>');
    await computer.screen!.waitFor(/^\n*grub>\s*$/, 30_000);
  });

  it('reads a known file from a far disk by its own AHCI driver', async () => {
    for (const line of ['insmod hashsum', 'insmod ext2', 'nativedisk ahci']) await grub(line);
    const match = /[0-9a-f]{64}/.exec(await grub('sha256sum (ahci1)/known'))!;
    expect(match[0]).toBe(createHash('sha256').update(known).digest('hex'));
    const { traps } = computer.counts;
    expect(traps.commands).toBeGreaterThan(10);
  });

  it('reports keys, drives and computers that do not exist', async () => {
    expect((await farbus('type', 'grub', '<nokey>')).stderr).toMatch(/^farbus: there is no key <nokey>/);
    expect((await farbus('media', 'grub', 'eject', '--drive', '1')).stderr).toContain('drive 1 is not removable');
    expect((await farbus('screenshot', 'other', '--text')).stderr).toContain('nothing called "other" runs here');
    expect(await farbus('media', 'grub', 'eject')).toMatchObject({ status: 0, stdout: 'ejected drive 0\n' });
    expect(await farbus('media', 'grub', 'eject')).toMatchObject({ status: 0, stdout: 'drive 0 is empty\n' });
    expect(await farbus('media', 'grub', 'insert', server.uri('rescue.iso'))).toMatchObject({ status: 0 });
    expect((await farbus('media', 'grub', 'insert', server.uri('rescue.iso'))).stderr).toContain('has a medium');
  });

  it('ends the computer when the guest asks for a restart', async () => {
    await computer.screen!.type('<ctrl-alt-delete>');
    expect(await computer.ended).toBe('reset');
  });
});

/** The size, number of lit pixels and colours of a PNG in 8-bit truecolour without filters. */
function readPng(file: Buffer): { width: number; height: number; lit: number; colors: Set<number> } {
  expect(file.subarray(1, 4).toString()).toBe('PNG');
  const width = file.readUInt32BE(16);
  const height = file.readUInt32BE(20);
  const at = file.indexOf('IDAT');
  const lines = inflateSync(file.subarray(at + 4, at + 4 + file.readUInt32BE(at - 4)));
  const colors = new Set<number>();
  let lit = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const color = lines.readUIntBE(y * (1 + 3 * width) + 1 + 3 * x, 3);
      colors.add(color);
      if (color !== 0) lit++;
    }
  }
  return { width, height, lit, colors };
}

async function waitUntil(ready: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 50_000;
  while (!(await ready())) {
    if (Date.now() > end) throw new Error(`it did not come: ${computer.screen!.text().join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
