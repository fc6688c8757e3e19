/**
 * `farbus demo`: the complete first embodiment on one machine. A server computer with its own
 * operating system, in its own process, serves two disk images. The unmodified operating system of
 * a client computer mounts them, verifies, copies and writes files, and pings the server's
 * operating system meanwhile, all on one Ethernet segment. At the end, standard tools verify the
 * images on the server's side.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FarbusError } from '../../base/errors.js';
import { formatBytes, formatMs } from '../../base/format.js';
import { makeOwnedFolder } from '../../base/owned.node.js';
import type { BlockDevice } from '../../block/device.js';
import { SharedAdapter } from '../../computer/shared-adapter.js';
import { Hub } from '../../network/ethernet/hub.js';
import { initiatorClaim } from '../../protocol/aoe/claim.js';
import { connectAoe } from '../../protocol/aoe/initiator/initiator.js';
import type { ComputerPlan } from '../../site/plan.js';
import { macOf } from '../../app/config/site.js';
import type { ClientComputer } from '../../computer/client.js';
import type { ComputerCounts } from '../../computer/options.js';
import { cacheFolder, sha256 } from '../../guest/cache.node.js';
import { markUsed } from '../../guest/cache-use.node.js';
import { Programs } from '../../guest/programs.node.js';
import type { OnProgress } from '../../guest/progress.js';
import type { Tool } from '../../guest/tools.node.js';
import { chooseEngine, type EngineChoice } from '../../app/computer/engine-choice.js';
import { chooseGuest, createComputer, startGuest, type Guest, type StartResult } from '../../app/computer/start.js';
import { tryNext } from './demo-advice.js';
import { DemoServer, demoServerPlan } from './demo-server.js';
import { DemoWeb } from './demo-web.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { ProgressLine } from '../ui/progress.js';
import { coloured, symbolsOf } from '../ui/style.js';
import { onSignals } from '../ui/signals.js';

const options = {
  fresh: { about: 'boot even if there are snapshots, and save new ones' },
  web: {
    value: '[HOST:]PORT',
    alone: '0',
    about:
      'show it on a console page, and go on until Ctrl-C instead of examining the images: the address is printed, and ' +
      'opened where there is a display. HOST is 127.0.0.1 by default, PORT a free one',
  },
  keep: { about: 'keep the images in the cache folder and print where they are' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'demo',
  summary: 'see it work: a server, a client computer, two far disks',
  usage: ['[--fresh] [--keep] [--web[=[HOST:]PORT]]'],
  about: `
    Makes two disk images (ext4 and vfat) with files on them and starts two computers that an Ethernet segment joins, each
    with an unmodified kernel of Debian on its own hypervisor, one with Debian 12 and one with Debian 11. Where KVM works,
    the client is a 64-bit computer on this computer's own processor; otherwise both are 32-bit. The hypervisor of the server computer (OS 2), in a process of its own, serves the images; they are the two NVMe disks of
    the client computer (OS 1). OS 1 checks files, copies them from and to the disks and writes others while it pings OS 2.
    Then fsck, debugfs and mtools examine the images. The first run fetches Debian's packages and boots; later runs start
    from snapshots.`,
  options,
  examples: ['farbus demo', 'farbus demo --fresh', 'farbus demo --web'],
  pages: ['system', 'web'],
  run,
});

/** Memory of the client on each engine, in bytes. */
const clientMemory = { v86: 192 << 20, kvm: 256 << 20 } as const;
/** IP addresses of OS 1 and OS 2. */
const clientAddress = '10.0.0.1/24';
const serverAddress = '10.0.0.2';
/** Shell command that prints the guest's kernel and busybox versions on one line. */
const whatItIs = `echo "Linux $(uname -r), $(busybox 2>&1 | head -n 1 | cut -d ' ' -f 1,2)"`;
/** AoE shelf of the server's devices. */
const shelf = 1;
/** Size of each disk image, in bytes. */
const imageSize = 64 << 20;
/** Size of the random files in bytes, small enough for an emulated processor to hash quickly. */
const fileSize = 256 << 10;
/** The disks of a run; the names are also those of the exports. */
const disks = [
  { name: 'demo-ext4.img', type: 'ext4', device: '/dev/nvme0n1' },
  { name: 'demo-vfat.img', type: 'vfat', device: '/dev/nvme1n1' },
] as const;
type Disk = (typeof disks)[number];

/** A file on a disk and its expected hash. */
interface Content {
  readonly name: string;
  readonly sha256: string;
}

async function run({ values }: Given<typeof options>, io: CliIo): Promise<number> {
  const engine = chooseEngine(undefined, io.env, { lacks: [] });
  const cache = cacheFolder();
  const folder = await makeOwnedFolder(cache, 'demo-');
  const signals = onSignals();
  const web = values.web === undefined ? undefined : new DemoWeb(values.web, folder, io);
  const demo = new Demo(io, folder, cache, { engine, web, signal: signals.signal });
  try {
    return await signals.during(demo.run(values.fresh));
  } finally {
    await demo.close();
    if (values.keep) {
      // Rename it: the next start would remove a folder with its present name as left by a killed
      // demo.
      const kept = join(cache, `images-${randomBytes(4).toString('hex')}`);
      await rename(folder, kept);
      io.stdout.write(`The images are in ${kept}\n`);
    } else await rm(folder, { recursive: true, force: true });
    signals.stop();
  }
}

interface DemoOptions {
  readonly engine: EngineChoice;
  /** Undefined without `--web`. */
  readonly web: DemoWeb | undefined;
  readonly signal: AbortSignal;
}

class Demo {
  readonly #io: CliIo;
  readonly #signal: AbortSignal;
  readonly #folder: string;
  readonly #snapshot: string;
  readonly #serverSnapshot: string;
  readonly #progress: ProgressLine;
  readonly #started = performance.now();
  readonly #engine: EngineChoice;
  readonly #web: DemoWeb | undefined;
  readonly #segment = new Hub({ name: 'lan', mtu: 9000 });
  #programs: Programs | undefined;
  #server: DemoServer | undefined;
  #adapter: SharedAdapter | undefined;
  #drives: BlockDevice[] = [];
  #computer: ClientComputer | undefined;

  constructor(io: CliIo, folder: string, cache: string, { engine, web, signal }: DemoOptions) {
    this.#io = io;
    this.#signal = signal;
    this.#folder = folder;
    this.#snapshot = join(cache, 'client-demo.snapshot');
    this.#serverSnapshot = join(cache, 'server-demo.snapshot');
    this.#progress = new ProgressLine(io);
    this.#engine = engine;
    this.#web = web;
  }

  async run(fresh: boolean): Promise<number> {
    for (const file of [this.#snapshot, this.#serverSnapshot]) {
      if (fresh) await rm(file, { force: true });
      await markUsed(file, dirname(file));
    }
    this.#say("Debian's kernel and user land, unmodified");
    const log = stderrLogger(this.#io, true);
    const onProgress: OnProgress = ({ label, done, total }) => this.#progress.bytes(label, done, total);
    // Programs come first: if they can be neither found nor fetched, the demo downloads nothing.
    this.#programs = await Programs.find(['mkfs.ext4', 'debugfs', 'e2fsck', 'mkfs.vfat', 'fsck.vfat', 'mcopy'], {
      log,
      signal: this.#signal,
      onProgress,
    });
    const guest = await chooseGuest({
      log,
      architecture: this.#engine.architecture,
      signal: this.#signal,
      network: true,
      append: `farbus.hostname=client farbus.address=${clientAddress}`,
      onProgress,
    });
    this.#done(guest.version);

    this.#say('Two disk images with files on them');
    const contents = await Promise.all(disks.map((disk) => this.#makeImage(disk)));
    const { fetched } = this.#programs;
    const by = fetched.length === 0 ? '' : ` (by Debian's ${fetched.join(', ')}, from the cache)`;
    this.#done(disks.map(({ type }) => `${type}, ${formatBytes(imageSize)}`).join('; ') + by);

    this.#say('A server computer: OS 2 on its hypervisor, in its own process; it serves the images');
    const serverUp = await this.#waiting(DemoServer.start(this.#serverPlan(), this.#segment));
    this.#server = serverUp.server;
    const osTwo = (await this.#server.console.run(whatItIs)).output.trim();
    this.#done(`OS 2 is up${serverUp.detail === '' ? '' : ` ${serverUp.detail}`}: ${osTwo}`);

    const own = this.#engine.name === 'kvm' ? " 64-bit on this computer's own processor (KVM)," : '';
    this.#say(`A client computer: OS 1,${own} on the same Ethernet segment, with the two far disks`);
    this.#adapter = new SharedAdapter(this.#segment, { mac: macOf('demo', 'client') });
    for (const [slot, { name }] of disks.entries()) {
      const drive = await connectAoe(this.#adapter.share(initiatorClaim(shelf, slot)), { shelf, slot, log });
      this.#drives.push(this.#web?.watched(name, drive) ?? drive);
    }
    const started = await this.#start(guest);
    const how = started.from === 'snapshot' ? 'from a snapshot' : 'booted';
    const osOne = (await this.#guest(whatItIs)).trim();
    this.#done(`OS 1 is up, ${how} in ${formatMs(started.ms)}: ${osOne}`);
    if (this.#web) this.#done(`the console page is at ${await this.#web.start(this.#computer!)}`);

    const before = await this.#framesOfServer();
    await this.#guest(`ping -i 0.5 ${serverAddress} > /tmp/ping & echo $! > /tmp/pid`);
    const written: Content[] = [];
    for (const [i, disk] of disks.entries()) written.push(await this.#useDisk(disk, contents[i]!));
    await this.#pinged(before);
    if (this.#web) {
      this.#say('OS 1 goes on to use its first disk; Ctrl-C ends the demo');
      await this.#web.goOn((command) => this.#guest(command), disks[0].device, this.#signal);
    }
    const counts = this.#computer!.counts;
    await this.close();

    for (const [i, disk] of disks.entries()) await this.#inspect(disk, written[i]!);
    this.#summary(counts, started);
    return 0;
  }

  /** Stops all that was started, the client before the server. */
  async close(): Promise<void> {
    this.#progress.clear();
    await this.#web?.close();
    await this.#computer?.stop();
    this.#computer = undefined;
    await Promise.all(this.#drives.splice(0).map((drive) => drive.close()));
    this.#adapter?.close();
    await this.#server?.stop();
    this.#server = undefined;
    await this.#segment.close();
  }

  #serverPlan(): ComputerPlan {
    return demoServerPlan({
      segment: this.#segment.name,
      address: serverAddress,
      snapshot: this.#serverSnapshot,
      devices: disks.map(({ name }, slot) => ({
        name,
        source: join(this.#folder, name),
        aoe: { shelf, slot },
        readOnly: false,
        lease: undefined,
      })),
    });
  }

  /** Number of frames that OS 2's network card has received. */
  async #framesOfServer(): Promise<number> {
    const { output } = await this.#server!.console.run('cat /sys/class/net/eth0/statistics/rx_packets');
    return Number(output);
  }

  /**
   * Reports how OS 1's ping of OS 2 went while the disks were in use, and how many frames OS 2
   * received.
   */
  async #pinged(before: number): Promise<void> {
    this.#say('OS 1 has pinged OS 2 meanwhile, on the segment that carried the I/O');
    const output = await this.#guest('kill -INT $(cat /tmp/pid); sleep 0.2; cat /tmp/ping');
    const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(output) ?? [];
    const average = /= [\d.]+\/([\d.]+)\//.exec(output)?.[1];
    if (!average || received === '0') throw new FarbusError(`OS 2 does not answer: ${output.trim().slice(-200)}`);
    this.#done(`${received} of ${sent!} answered, in ${formatMs(Number(average))} on average`);
    const { toHypervisor, fromHypervisor } = this.#adapter!.counters;
    const seen = (await this.#framesOfServer()) - before;
    this.#done(
      `the disks' ${toHypervisor + fromHypervisor} frames passed beneath; OS 2's card got ${seen} frames, of the ping`,
    );
  }

  async #makeImage(disk: Disk): Promise<Content[]> {
    const source = join(this.#folder, disk.type);
    await mkdir(source);
    const contents: Content[] = [];
    for (const [name, bytes] of [
      ['hello.txt', Buffer.from(`This file is on a ${disk.type} disk that is in another computer.\n`)],
      ['random.bin', randomBytes(fileSize)],
    ] as const) {
      await writeFile(join(source, name), bytes);
      contents.push({ name, sha256: sha256(bytes) });
    }
    const image = join(this.#folder, disk.name);
    await writeFile(image, '');
    await truncate(image, imageSize);
    if (disk.type === 'ext4') {
      await this.#must('mkfs.ext4', ['-q', '-F', '-L', 'far', '-d', source, image]);
    } else {
      await this.#must('mkfs.vfat', ['-n', 'FAR', image]);
      await this.#must('mcopy', ['-i', image, ...contents.map(({ name }) => join(source, name)), '::']);
    }
    return contents;
  }

  async #start(guest: Guest): Promise<StartResult> {
    const log = stderrLogger(this.#io, true);
    // Each run makes new images. When the guest is saved, it has not read them yet.
    const drives = this.#drives.map((device) => ({ device, assumeSame: true }));
    const { name: engine } = this.#engine;
    const memory = clientMemory[engine];
    const start = async (): Promise<StartResult> => {
      this.#computer = await createComputer(drives, memory, { log, adapter: this.#adapter, engine });
      return startGuest(this.#computer, guest, this.#snapshot, memory, { renew: true });
    };
    return this.#waiting(start());
  }

  /** Shows the elapsed time during `work`. */
  async #waiting<T>(work: Promise<T>): Promise<T> {
    const ticker = setInterval(() => {
      this.#progress.status('starting', (performance.now() - this.#started) / 1000);
    }, 500);
    try {
      return await work;
    } finally {
      clearInterval(ticker);
      this.#progress.clear();
    }
  }

  /** Lets the guest mount a disk, verify its files, and write a file. */
  async #useDisk(disk: Disk, contents: readonly Content[]): Promise<Content> {
    this.#say(`Its operating system uses ${disk.device} (${disk.type})`);
    await this.#guest(`mkdir -p /mnt/${disk.type} && mount -t ${disk.type} ${disk.device} /mnt/${disk.type}`);
    // Each command has a shell of its own.
    const there = `cd /mnt/${disk.type} &&`;
    const sums = await this.#guest(`${there} sha256sum ${contents.map(({ name }) => name).join(' ')}`);
    for (const { name, sha256 } of contents) {
      if (!sums.includes(`${sha256}  ${name}`)) throw new FarbusError(`the guest read ${name} wrong: ${sums.trim()}`);
    }
    await this.#guest(
      `${there} cp random.bin /tmp/copy && cp /tmp/copy copy.bin && rm /tmp/copy && sync && cmp random.bin copy.bin`,
    );
    const name = 'guest.bin';
    const line = await this.#guest(
      `${there} uname -a > told.txt && dd if=/dev/urandom of=${name} bs=64k count=${fileSize >> 16} 2>/dev/null && sha256sum ${name}`,
    );
    const hash = /^([0-9a-f]{64})/m.exec(line)?.[1];
    if (!hash) throw new FarbusError(`the guest did not hash what it wrote: ${line.trim()}`);
    await this.#guest(`umount /mnt/${disk.type}`);
    this.#done('mounted, files verified, one copied from and to it, one written, unmounted');
    return { name, sha256: hash };
  }

  /** Verifies an image with tools that are not part of farbus. */
  async #inspect(disk: Disk, written: Content): Promise<void> {
    this.#say(`On the server: is ${written.name} in ${disk.name}?`);
    const image = join(this.#folder, disk.name);
    const copy = join(this.#folder, `${disk.type}-${written.name}`);
    if (disk.type === 'ext4') {
      await this.#must('e2fsck', ['-f', '-n', image]);
      await this.#must('debugfs', ['-R', `dump ${written.name} ${copy}`, image]);
    } else {
      await this.#must('fsck.vfat', ['-n', image]);
      await this.#must('mcopy', ['-i', image, `::${written.name}`, copy]);
    }
    const found = sha256(await readFile(copy));
    if (found !== written.sha256) throw new FarbusError(`${written.name} is not what the guest wrote: ${found}`);
    const tools = disk.type === 'ext4' ? 'e2fsck and debugfs' : 'fsck.vfat and mcopy';
    this.#done(`yes, byte for byte (${tools})`);
  }

  async #guest(command: string): Promise<string> {
    const { output, status } = await this.#computer!.console.run(command, 120_000);
    if (status !== 0) throw new FarbusError(`in the guest, "${command}" failed: ${output.trim()}`);
    return output;
  }

  #summary(counts: ComputerCounts, started: StartResult): void {
    const { io, traps, legs } = counts;
    const median = (ms: number | undefined) => (ms === undefined ? 'none' : formatMs(ms));
    this.#io.stdout.write(`
What happened: ${counts.commands} commands (${io.reads} reads, ${io.writes} writes, ${io.others} others) by \
${traps.commands} doorbell traps, ${counts.interrupts} interrupts;
  ${formatBytes(io.readBytes)} read and ${formatBytes(io.writtenBytes)} written over the network.
Median latencies: trap to virtual I/O client ${median(legs.trap)}, there and back ${median(legs.far)}, \
answer to driver ${median(legs.guest)}.
In all ${formatMs(performance.now() - this.#started)}.${started.saved ? ' The next run starts from snapshots and is quicker.' : ''}

${tryNext()}`);
  }

  async #must(tool: Tool, args: readonly string[]): Promise<void> {
    await this.#programs!.run(tool, args, this.#signal);
  }

  #say(text: string): void {
    this.#io.stdout.write(`${symbolsOf(this.#io.env).step} ${text}\n`);
  }

  #done(text: string): void {
    this.#progress.clear();
    const { stdout, env } = this.#io;
    stdout.write(`  ${coloured('done', symbolsOf(env).done, stdout, env)} ${text}\n`);
  }
}
