/**
 * Boots from far drives by the firmware: a diskless Debian (farbus guest-disk) up to its login
 * prompt, over TCP loopback from `farbus serve` in another process, against a boot from a local
 * file; alternating, medians, each time from a fresh disk. Also GRUB's rescue CD, served the same
 * way, up to its prompt.
 *
 * node bench/boot.mjs [ROUNDS]
 * Needs: grub-mkimage, mkfs.ext4, debugfs, dpkg-deb, /usr/lib/grub/i386-pc/boot.img.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chooseGuest, createComputer } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openClientDrive } from '../dist/app/sources.js';
import { makeGuestDisk } from '../dist/guest/disk/guest-disk.node.js';
import { packageFolder } from '../dist/guest/firmware.node.js';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 5);
const log = { log: () => undefined };
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const disk = join(folder, 'disk.img');
const { firmware } = await chooseGuest({ bios: true, log });

/** Serves a file in a process of its own while `use` runs with its address. */
async function served(file, use) {
  const args = ['bin/farbus.js', 'serve', `drive=${file}`, '--listen', 'nbd://127.0.0.1:0', '--json'];
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(server, 'exit');
  try {
    const [line] = await once(createInterface({ input: server.stdout }), 'line');
    return await use(`${JSON.parse(line).listening[0].replace(/\/$/, '')}/drive`);
  } finally {
    server.kill();
    await exited;
  }
}

/** Seconds until `ready` resolves. Of earlier boots only the host's page cache remains. */
async function boot(source, ready) {
  const drive = await openClientDrive(parseSource(source), { log });
  const computer = await createComputer([drive], 128 << 20, { log, firmware });
  try {
    const began = performance.now();
    computer.bootFirmware();
    await ready(computer);
    return (performance.now() - began) / 1000;
  } finally {
    await computer.stop();
    await drive.device.close();
  }
}

const login = (computer) => computer.console.waitFor(/login: /, 600_000);
async function prompt({ screen }) {
  await screen.waitFor(/GNU GRUB/, 120_000);
  await screen.type('c');
  await screen.waitFor(/grub> *$/m, 120_000);
}

const ways = {
  far: () => served(disk, (address) => boot(`${address},bus=ahci`, login)),
  local: () => boot(`${disk},bus=ahci`, login),
};

try {
  console.log(machineLine());
  const took = { far: [], local: [] };
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? ['far', 'local'] : ['local', 'far']) {
      await makeGuestDisk(disk, { log });
      took[way].push(await ways[way]());
    }
  }
  const [far, local] = [median(took.far), median(took.local)];
  console.log(
    `diskless boot to login: ${far.toFixed(1)} s over loopback, ${local.toFixed(1)} s from a local file: ` +
      `${(far / local).toFixed(2)}, by pairs ${ratio(took.far, took.local)}, wanted at most 1.25`,
  );

  const iso = 'usr/lib/grub-rescue/grub-rescue-cdrom.iso';
  const rescue = join(folder, 'rescue.iso');
  copyFileSync(join(await packageFolder('grub-rescue-pc', [`./${iso}`]), iso), rescue);
  const seconds = [];
  for (let round = 0; round < rounds; round++) {
    seconds.push(await served(`${rescue},read-only`, (address) => boot(`${address},cdrom`, prompt)));
  }
  const [least, most] = [Math.min(...seconds), Math.max(...seconds)].map((value) => value.toFixed(1));
  console.log(`GRUB's prompt from a far CD: ${median(seconds).toFixed(1)} s (${least}–${most}), wanted below 6 s`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
