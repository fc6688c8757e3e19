/**
 * A guest on the KVM engine with a far disk over NBD, against QEMU with KVM in the same place, with
 * the same kernel, memory and export: exits to user space and interrupts for each 4 KiB read, time
 * from the kernel's entry to init, direct reads, memory, an idle guest's processor time. Both
 * guests stay up and take turns, after some thousand reads; medians. Without a KVM that works it
 * runs in an emulated computer that has one (tests/support/kvm-lab.ts): there counts are exact,
 * ratios are fair, times mean little.
 *
 * node bench/kvm.mjs [ROUNDS]
 * Needs: qemu-system-x86_64.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { chooseGuest, createComputer, initReadyText, startGuest } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { SerialConsole } from '../dist/computer/console.js';
import { probeKvm } from '../dist/machine/engines/kvm/probe.node.js';
import { machineLine, median, ratio } from './report.mjs';

const memory = 512 << 20;
const mib = 64;
const log = { log: () => undefined };
const farbus = fileURLToPath(new URL('../bin/farbus.js', import.meta.url));
const here = process.argv[2] === '--here';
const rounds = Number(process.argv[here ? 3 : 2] ?? 5);

/** Serves a disk in another process, and calls `use` with its address. */
async function serve(use) {
  const args = [farbus, 'serve', `disk=memory:${mib}M`, '--listen', 'nbd://127.0.0.1:0', '--json'];
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = await once(createInterface({ input: server.stdout }), 'line');
    await use(`${JSON.parse(line).listening[0].replace(/\/$/, '')}/disk`);
  } finally {
    server.kill();
  }
}

/** Runs this program in the lab. */
async function inLab() {
  const { runnerImport } = await import('vite');
  const { module } = await runnerImport(fileURLToPath(new URL('../tests/support/kvm-lab.ts', import.meta.url)));
  const script = `cd ${process.cwd()} && node ${fileURLToPath(import.meta.url)} --here ${rounds}\n`;
  const { status, output } = await module.inKvmLab(script, 900_000);
  console.log(`in the lab: ${output.replace(/^lab status .*$/m, '').trim()}`);
  if (status !== 0) process.exitCode = 1;
}

async function measure(uri) {
  const guest = await chooseGuest({ log, architecture: 'amd64' });
  console.log(machineLine());
  const far = await openSource(parseSource(uri), { log });
  // An empty disk would give no proof of its identity, and each read of it would be looked at.
  const content = randomBytes(1 << 20);
  for (let at = 0; at < far.info.size; at += content.length) await far.write(at, content);
  const computer = await createComputer([far], memory, { log, engine: 'kvm' });
  await startGuest(computer, guest, undefined, memory);
  const qemu = await startQemu(guest.image, uri);
  const consoles = { farbus: computer.console, qemu: qemu.console };
  try {
    await compareBoots(consoles);
    for (const command of warmUp) for (const console of Object.values(consoles)) await run(console, command);
    for (const [name, command] of Object.entries(jobs)) await compareJob(name, command, consoles);
    for (const depth of [1, 32]) await countReads(computer, depth);
    console.log(`QEMU's idle guest: ${(await percentIdle(qemu.pid)).all.toFixed(2)} % of a processor`);
  } finally {
    qemu.kill();
    await computer.stop();
    await far.close();
  }
  await measureProcess(uri);
}

/** The system and the disk as the computer has them, in QEMU. */
async function startQemu({ bzImage, initramfs, commandLine }, uri) {
  const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
  const [kernel, initrd] = ['kernel', 'initrd'].map((name) => join(folder, name));
  writeFileSync(kernel, bzImage);
  writeFileSync(initrd, initramfs);
  const machine = ['-accel', 'kvm', '-cpu', 'host', '-m', `${memory >> 20}`, '-nographic', '-nodefaults'];
  const drive = ['-drive', `file=${uri},format=raw,if=none,id=far`, '-device', 'nvme,drive=far,serial=far'];
  const boot = ['-serial', 'stdio', '-no-reboot', '-kernel', kernel, '-initrd', initrd, '-append', commandLine];
  const process_ = spawn('qemu-system-x86_64', [...machine, ...drive, ...boot], { stdio: ['pipe', 'pipe', 'inherit'] });
  const console = new SerialConsole((bytes) => new Promise((taken) => process_.stdin.write(bytes, () => taken())));
  process_.stdout.on('data', (bytes) => bytes.forEach((byte) => console.receive(byte)));
  await console.waitFor(new RegExp(initReadyText), 120_000);
  rmSync(folder, { recursive: true });
  return { console, pid: process_.pid, kill: () => process_.kill('SIGKILL') };
}

async function run(console, command) {
  const { status, output } = await console.run(command, 120_000);
  if (status !== 0) throw new Error(`${command}: ${output}`);
  return output;
}

/** By the guest's own clock, which starts when the kernel is entered. */
async function compareBoots(consoles) {
  const seconds = {};
  for (const [name, console] of Object.entries(consoles)) {
    const line = await run(console, 'dmesg | grep "Run /init"');
    seconds[name] = Number(/\[ *([\d.]+)\]/.exec(line)[1]);
  }
  const { farbus: own, qemu } = seconds;
  console.log(
    `kernel entry to init: ${own.toFixed(2)} s, QEMU ${qemu.toFixed(2)} s; ` +
      `ratio ${(own / qemu).toFixed(2)} (wanted: at most 1.1)`,
  );
}

const disk = '/dev/nvme0n1';
/** Direct reads, as many at once as `depth`. */
const reads = (depth, count) =>
  Array.from(
    { length: depth },
    (_, i) => `dd if=${disk} of=/dev/null bs=4k skip=${i * 400} count=${count} iflag=direct 2>/dev/null &`,
  ).join(' ') + ' wait';
/**
 * Reads before the first measurement. JavaScript is compiled in steps while it runs, and the last
 * one comes after some thousand commands. A guest that has booted from a disk has read as much.
 */
const warmUp = [reads(1, '4000'), reads(32, '0030')];
const jobs = {
  '1 MiB direct reads (wanted: at least 1.0)': `dd if=${disk} of=/dev/null bs=1M count=${mib} iflag=direct 2>/dev/null`,
  '4 KiB direct reads, depth 1 (wanted: at least 0.8)': reads(1, '2000'),
  '4 KiB direct reads, depth 32 (wanted: at least 0.8)': reads(32, '0030'),
};

async function compareJob(name, command, consoles) {
  const ms = { farbus: [], qemu: [] };
  for (let round = -1; round < rounds; round++) {
    const turns = Object.entries(consoles);
    for (const [who, console] of round % 2 === 0 ? turns : turns.reverse()) {
      const began = performance.now();
      await run(console, command);
      if (round >= 0) ms[who].push(performance.now() - began);
    }
  }
  console.log(
    `${name}: rate ${ratio(ms.qemu, ms.farbus)} of QEMU's; ${median(ms.farbus).toFixed(0)} ms, QEMU ${median(ms.qemu).toFixed(0)} ms`,
  );
}

/** Exits and interrupts for each read. A run without reads tells what the shell itself costs. */
async function countReads(computer, depth) {
  // Texts of one length, because the console's exits depend on it.
  const count = depth === 1 ? '2000' : '0200';
  const cost = async (command) => {
    const before = { guest: await interrupts(computer.console), ...computer.counts };
    await run(computer.console, command);
    const after = { ...computer.counts, guest: await interrupts(computer.console) };
    const exits = Object.keys(after.exits).map((why) => [why, after.exits[why] - before.exits[why]]);
    return {
      commands: after.commands - before.commands,
      interrupts: after.guest - before.guest,
      memory: after.exits.memory - before.exits.memory,
      exits: exits.reduce((sum, [, number]) => sum + number, 0),
    };
  };
  const empty = await cost(reads(depth, '0000'));
  const full = await cost(reads(depth, count));
  const commands = full.commands - empty.commands;
  const per = (what) => ((full[what] - empty[what]) / commands).toFixed(3);
  const wanted = depth === 1 ? '(wanted: at most 0.2)' : '(wanted: at most 0.05)';
  console.log(
    `4 KiB reads, depth ${depth}: ${commands} commands; exits a command ${per('exits')} ${wanted}, of them at the ` +
      `device's registers ${per('memory')}; interrupts ${per('interrupts')}${depth === 1 ? '' : ' (wanted: below 0.5)'}`,
  );
}

/** Interrupts of the controller, as the guest has counted them. */
async function interrupts(console) {
  const lines = (await run(console, 'grep nvme /proc/interrupts')).trim().split('\n');
  const numbers = lines.flatMap((line) => /: +([\d ]+) /.exec(line)[1].trim().split(/ +/).map(Number));
  return numbers.reduce((sum, number) => sum + number, 0);
}

/** Memory and processor time of `farbus run` with an idle guest. */
async function measureProcess(uri) {
  const args = [farbus, 'run', '--engine', 'kvm', '--memory', `${memory >> 20}M`, '--drive', uri];
  const child = spawn(process.execPath, [...args, '--exec', 'echo is idle; sleep 120'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise((resolve) =>
      createInterface({ input: child.stdout }).on('line', (line) => line.includes('is idle') && resolve()),
    );
    const idle = await percentIdle(child.pid);
    const [own, all] = residentMiB(child.pid);
    console.log(
      `farbus run: ${own.toFixed(0)} MiB besides the guest's memory (wanted: at most 150 MB), ${all.toFixed(0)} MiB in all; ` +
        `idle guest: ${idle.all.toFixed(2)} % of a processor (wanted: below 1 %), of it ` +
        `${idle.main.toFixed(2)} % on our main thread`,
    );
  } finally {
    child.kill('SIGKILL');
  }
}

/**
 * Time from the end of the guest's work to the measurement of the idle guest, in ms. V8 tidies its
 * heap once, some 8 s after the work, by several threads.
 */
const settleMs = 30_000;

/** Processor time that a process and its main thread take while its guest is idle, in %. */
async function percentIdle(pid) {
  const ticks = (stat) => {
    const fields = readFileSync(`/proc/${pid}/${stat}`, 'latin1').split(') ')[1].split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const now = () => [ticks('stat'), ticks(`task/${pid}/stat`)];
  await sleep(settleMs);
  const before = now();
  await sleep(20_000);
  // Ticks of 10 ms in 20 s.
  const [all, main] = now().map((after, i) => (after - before[i]) / 20);
  return { all, main };
}

/** Resident memory in MiB without the mappings that hold the guest's memory, and with them. */
function residentMiB(pid) {
  let [own, all, guest] = [0, 0, false];
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range) {
      const size = parseInt(range[2], 16) - parseInt(range[1], 16);
      guest = size >= memory && size <= memory + (16 << 20);
    }
    const rss = /^Rss: +(\d+) kB/.exec(line);
    if (!rss) continue;
    all += Number(rss[1]) / 1024;
    if (!guest) own += Number(rss[1]) / 1024;
  }
  return [own, all];
}

if (here || probeKvm() === true) await serve(measure);
else await inLab();
