/**
 * Reads of a guest of a few kilobytes (kvm-guest/), which drives an NVMe disk and has no paging:
 * every KVM runs it at speed, also one that pages in software. The disk is a far one over NBD. The
 * same guest runs on the KVM engine and in QEMU with KVM, by turns; medians. It tells what a
 * command costs on both sides of the trap: time, and processor time of the main thread.
 *
 * node bench/kvm-guest.mjs [ROUNDS]
 * Needs: gcc, as, ld, objcopy, qemu-system-x86_64.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createComputer } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { machineLine, median, ratio } from './report.mjs';

const rounds = Number(process.argv[2] ?? 15);
const memory = 128 << 20;
const log = { log: () => undefined };
const farbus = fileURLToPath(new URL('../bin/farbus.js', import.meta.url));
const sources = fileURLToPath(new URL('kvm-guest/', import.meta.url));
/** Reads before the first round: JavaScript is compiled after some thousand. */
const warmUp = 4000;
/** Bytes, depth and number of the reads of a round. Linux splits 1 MiB into two commands. */
const jobs = [
  [4096, 1, 400],
  [524288, 2, 60],
  [4096, 32, 4000],
];

/** Compiles the guest in `folder`. Returns the path of its ROM. */
function compile(folder) {
  const at = (name) => join(folder, name);
  const flags =
    '-m32 -ffreestanding -O2 -mno-sse -mno-mmx -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables';
  execFileSync('gcc', [...flags.split(' '), '-c', join(sources, 'program.c'), '-o', at('program.o')]);
  execFileSync('as', ['--32', join(sources, 'start.S'), '-o', at('start.o')]);
  const inputs = ['-T', join(sources, 'program.ld'), '--no-warn-rwx-segments', '-z', 'noexecstack'];
  execFileSync('ld', ['-m', 'elf_i386', ...inputs, at('start.o'), at('program.o'), '-o', at('program')]);
  execFileSync('objcopy', ['-O', 'binary', at('program'), at('program.bin')]);
  execFileSync('as', ['--32', '-I', folder, join(sources, 'rom.S'), '-o', at('rom.o')]);
  execFileSync('objcopy', ['-O', 'binary', '-j', '.text', at('rom.o'), at('rom')]);
  return at('rom');
}

/** A guest's serial port: sends a line, and waits for one. */
class Port {
  #send;
  #text = '';
  #lines = [];
  #told = () => undefined;

  constructor(send) {
    this.#send = send;
  }

  receive(byte) {
    if (byte !== 10) return void (this.#text += String.fromCharCode(byte));
    this.#lines.push(this.#text);
    this.#text = '';
    this.#told();
  }

  async line() {
    while (this.#lines.length === 0) await new Promise((resolve) => (this.#told = resolve));
    return this.#lines.shift();
  }

  /** Returns the ticks that the reads took. */
  async read(bytes, depth, count) {
    this.#send(`read ${bytes} ${depth} ${count}\n`);
    const [, ticks, bad] = (await this.line()).split(' ');
    if (parseInt(bad, 16) !== 0) throw new Error(`${parseInt(bad, 16)} of ${count} reads failed`);
    return parseInt(ticks, 16);
  }
}

/** Processor time of the main thread of a process, in µs. */
function mainThreadTime(pid) {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'latin1').split(' ')[0]) / 1000;
}

const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const ends = [() => rmSync(folder, { recursive: true })];
try {
  const rom = compile(folder);
  const serve = [farbus, 'serve', 'disk=memory:64M', '--listen', 'nbd://127.0.0.1:0', '--json'];
  const server = spawn(process.execPath, serve, { stdio: ['ignore', 'pipe', 'inherit'] });
  ends.push(() => server.kill());
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  const uri = `${JSON.parse(line).listening[0].replace(/\/$/, '')}/disk`;

  const far = await openSource(parseSource(uri), { log });
  // An empty disk would give no proof of its identity, and each read of it would be looked at.
  const content = randomBytes(1 << 20);
  for (let at = 0; at < far.info.size; at += content.length) await far.write(at, content);
  ends.push(() => far.close());
  const firmware = { bios: readFileSync(rom) };
  const computer = await createComputer([far], memory, { log, engine: 'kvm', firmware });
  ends.push(() => computer.stop());
  const own = new Port((text) => void computer.sendSerial(Buffer.from(text)));
  computer.onSerial((byte) => own.receive(byte));
  computer.bootFirmware();

  const machine = [
    '-M',
    'pc',
    '-accel',
    'kvm',
    '-m',
    `${memory >> 20}`,
    '-display',
    'none',
    '-nodefaults',
    '-bios',
    rom,
  ];
  const drive = ['-drive', `file=${uri},format=raw,if=none,id=far`, '-device', 'nvme,drive=far,serial=far'];
  const child = spawn('qemu-system-x86_64', [...machine, ...drive, '-serial', 'stdio', '-no-reboot'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  ends.push(() => child.kill('SIGKILL'));
  const qemu = new Port((text) => child.stdin.write(text));
  child.stdout.on('data', (bytes) => bytes.forEach((byte) => qemu.receive(byte)));

  const guests = [
    ['farbus', own, process.pid],
    ['qemu', qemu, child.pid],
  ];
  console.log(machineLine());
  const mhz = Number(/MHz\s*: ([\d.]+)/.exec(readFileSync('/proc/cpuinfo', 'latin1'))[1]);
  for (const [, port] of guests) {
    const first = await port.line();
    if (first !== 'ready') throw new Error(first);
    await port.read(4096, 1, warmUp);
  }
  for (const [bytes, depth, count] of jobs) {
    const times = { farbus: [], qemu: [] };
    const main = { farbus: [], qemu: [] };
    for (let round = -1; round < rounds; round++) {
      for (const [name, port, pid] of round % 2 === 0 ? guests : guests.toReversed()) {
        const before = mainThreadTime(pid);
        const ticks = await port.read(bytes, depth, count);
        if (round < 0) continue;
        times[name].push(ticks / mhz / count);
        main[name].push((mainThreadTime(pid) - before) / count);
      }
    }
    console.log(
      `reads of ${bytes / 1024} KiB, depth ${depth}: rate ${ratio(times.qemu, times.farbus)} of QEMU's; ` +
        `${median(times.farbus).toFixed(1)} µs a command, QEMU ${median(times.qemu).toFixed(1)}; ` +
        `of the main thread ${median(main.farbus).toFixed(1)}, QEMU ${median(main.qemu).toFixed(1)}`,
    );
  }
} finally {
  for (const end of ends.reverse()) await end();
}
process.exit();
