/**
 * A tab's computer with a far disk against v86's own `async` disk over HTTP, both behind a network
 * with 20 ms for a round trip: boot a Debian, mount the same image and read 50 MB of its files; by
 * turns, medians. Also the same computer of Farbus when it boots instead of continuing from the
 * server's snapshot.
 *
 * node bench/browser-delay.mjs [--rounds N] [--delay MS] [--mb N] [--only WAY]
 *
 * Needs: chromium, mkfs.ext4.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chooseGuest } from '../dist/app/computer/start.js';
import { prepareFirmware } from '../dist/guest/firmware.node.js';
import { browse } from './chromium.mjs';
import { machineLine, median, ratio } from './report.mjs';
import { delayed, openPage, serve, servePage } from './tab.mjs';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    delay: { type: 'string', default: '20' },
    mb: { type: 'string', default: '50' },
    only: { type: 'string', multiple: true },
  },
});
const rounds = Number(flags.rounds);
const oneWayMs = Number(flags.delay) / 2;
const log = { log: () => undefined };
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const inFolder = (name) => join(folder, name);
const engine = fileURLToPath(new URL('../node_modules/v86/build/', import.meta.url));
const wanted = 3;

/** Makes a file system with files of 1 MB. Returns the path of the image. */
function makeImage() {
  const files = inFolder('files');
  mkdirSync(files);
  for (let i = 0; i < Number(flags.mb); i++) writeFileSync(join(files, `f${i}`), randomFillSync(new Uint8Array(1e6)));
  const image = inFolder('disk.img');
  writeFileSync(image, '');
  truncateSync(image, (Number(flags.mb) + 30) << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', '-d', files, image], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  return { image, size: (Number(flags.mb) + 30) << 20 };
}

const farbusPage = `<!doctype html><script type="module">
  import { TabComputer } from '/dist/api/browser.js';
  globalThis.boot = async (options) => {
    globalThis.computer = await TabComputer.start(options);
    await computer.run('true');
  };
  globalThis.run = (command) => computer.run(command, 600000);
  globalThis.ready = true;
</script>`;

const v86Page = `<!doctype html><script type="module">
  import { V86 } from '/v86.mjs';
  let text = '';
  let found = () => undefined;
  const until = (pattern) =>
    new Promise((resolve) => {
      found = () => {
        const match = pattern.exec(text);
        if (match) resolve(match);
      };
      found();
    });
  let emulator;
  globalThis.boot = async ({ size, commandLine }) => {
    emulator = new V86({
      wasm_path: '/v86.wasm',
      bios: { url: '/bios' },
      vga_bios: { url: '/vga' },
      bzimage: { url: '/kernel' },
      initrd: { url: '/initrd' },
      cmdline: commandLine,
      hda: { url: '/disk.img', async: true, size },
      memory_size: 128 << 20,
      vga_memory_size: 2 << 20,
      net_device: { type: 'none' },
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      autostart: true,
    });
    emulator.add_listener('serial0-output-byte', (byte) => {
      text += String.fromCharCode(byte);
      found();
    });
    await until(/farbus: ready[^]*# $/);
  };
  globalThis.run = async (command) => {
    text = '';
    // The quotes keep the echo of the command from looking like its answer.
    emulator.serial0_send(command + '; echo "an"swer-$?-\\n');
    const [all, status] = await until(/answer-(\\d+)-/);
    return { status: Number(status), output: text.slice(text.indexOf('\\n') + 1, text.indexOf(all)) };
  };
  globalThis.console_ = () => text;
  globalThis.ready = true;
</script>`;

const { image, size } = makeImage();
const [guest, { bios, vgaBios }] = await Promise.all([chooseGuest({ ide: true, log }), prepareFirmware({ log })]);
const { bzImage, initramfs, commandLine } = guest.image;
const own = { bios, vga: vgaBios, kernel: bzImage, initrd: initramfs };
for (const [name, bytes] of Object.entries(own)) writeFileSync(inFolder(name), bytes);
const paths = Object.fromEntries(Object.keys(own).map((name) => [`/${name}`, inFolder(name)]));

const pages = await servePage(farbusPage);
const engines = { '/v86.mjs': join(engine, 'libv86.mjs'), '/v86.wasm': join(engine, 'v86.wasm') };
const v86Server = await servePage(v86Page, { ...engines, ...paths, '/disk.img': image });
const server = await serve([`disk=${image},read-only`], { folder, origin: pages.origin });
const farWeb = await delayed(server.web.port, oneWayMs);
const farV86 = await delayed(v86Server.port, oneWayMs);
const { token } = server;
const drives = [{ url: `ws://${farWeb.host}/nbd/disk`, token, readOnly: true }];
const computer = { guest: `http://${farWeb.host}/guest/system.json`, token, drives };
const ways = {
  v86: { origin: `http://${farV86.host}`, options: { size, commandLine } },
  farbus: { origin: pages.origin, options: computer },
  'farbus, booted': { origin: pages.origin, options: { ...computer, snapshot: false } },
};
const chosen = Object.keys(ways).filter((way) => flags.only === undefined || flags.only.includes(way));

const mount =
  'for i in $(seq 300); do blockdev --getsize64 /dev/sda >/dev/null 2>&1 && break; sleep 0.1; done; ' +
  'mkdir -p /mnt/d && mount -o ro /dev/sda /mnt/d';
const page = await browse('about:blank', folder);

/** Runs a command in the guest of the page. Returns its output and the time that it took, in ms. */
async function timed(command) {
  const started = performance.now();
  const { status, output } = await page.evaluate(`run(${JSON.stringify(command)})`);
  if (status !== 0) throw new Error(`${command}: ${output}`);
  return { output, ms: performance.now() - started };
}

/** The checksum of the files, and the times until the shell answers and of the reading, in ms. */
async function once({ origin, options }) {
  await openPage(page, origin);
  const started = performance.now();
  await page.evaluate(`boot(${JSON.stringify(options)})`);
  const boot = performance.now() - started;
  const mounted = await timed(mount);
  const read = await timed('cat /mnt/d/f* >/dev/null');
  const { output } = await timed('cat /mnt/d/f* | md5sum');
  return { sum: output.trim(), boot, read: mounted.ms + read.ms };
}

try {
  console.log(machineLine());
  // The server makes its snapshot at the first request.
  await fetch(new URL('/guest/system.json', server.web), { headers: { authorization: `Bearer ${token}` } });
  const took = Object.fromEntries(chosen.map((way) => [way, { boot: [], read: [], all: [] }]));
  const sums = new Set();
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? chosen : [...chosen].reverse()) {
      const { sum, boot, read } = await once(ways[way]);
      sums.add(sum);
      took[way].boot.push(boot);
      took[way].read.push(read);
      took[way].all.push(boot + read);
      console.log(`${way}: boot ${(boot / 1e3).toFixed(1)} s, read ${(read / 1e3).toFixed(1)} s`);
    }
  }
  if (sums.size !== 1) throw new Error(`the files differ: ${[...sums].join(', ')}`);
  console.log(`the same checksum in all rounds: ${[...sums][0]}`);
  const seconds = (values) => `${(median(values) / 1e3).toFixed(1)} s`;
  for (const way of chosen) {
    const { boot, read, all } = took[way];
    const times = `boot ${seconds(boot)}, read ${seconds(read)}, both ${seconds(all)}`;
    const rates =
      way === 'v86' || !took.v86
        ? ''
        : `; v86's time / this: read ${ratio(took.v86.read, read)}, both ${ratio(took.v86.all, all)}`;
    console.log(`${way}: ${times}${rates}`);
  }
  console.log(`wanted: v86's time for both / farbus at least ${wanted}`);
} finally {
  await page.close();
  for (const one of [farWeb, farV86, server, pages, v86Server]) one.close();
  rmSync(folder, { recursive: true, force: true });
}
