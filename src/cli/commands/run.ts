/** `farbus run`: starts a client computer whose disks are elsewhere. */
import type { DebianRelease } from '../../guest/lock.node.js';
import { collectBytes, ConsoleFeed } from '../../base/console-feed.js';
import { usageError } from '../../base/errors.js';
import { formatBytes, wholeMiB } from '../../base/format.js';
import { Steps } from '../../base/steps.js';
import { planDrive, type ClientDrive } from '../../computer/drives.js';
import { checkCommand } from './guest-command.js';
import { execute } from './run-exec.js';
import { checkFirmware, firmwareOption, variablesFile } from './run-firmware.js';
import { background, interactive } from './run-console.js';
import { withProfile } from './run-profile.js';
import {
  checkMachine,
  chooseEngine,
  engineText,
  engineWords,
  largestMemory,
  mostProcessors,
  onEngine,
} from '../../app/computer/engine-choice.js';
import { chooseGuest, createComputer, memoryFor, minMemory, saveRunning } from '../../app/computer/start.js';
import { computerHandler } from '../../app/computer/control.js';
import type { Facts } from '../../app/control/registry.js';
import { Media } from '../../app/computer/media.js';
import { detach } from '../ui/detach.js';
import { enroll } from '../ui/enroll.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options, Values } from '../table.js';
import { exitStatus } from '../exit-status.js';
import { numberOption, sizeOption } from '../options.js';
import { ProgressLine } from '../ui/progress.js';
import { usualMemory as usualInSites } from '../../app/site/computer.js';
import { parseSource } from '../../app/source-text.js';
import { openClientDrive } from '../../app/sources.js';
import { onSignals } from '../ui/signals.js';
import { snapshotFile } from '../../site/folders.node.js';
import { TracePrinter } from '../../app/trace.js';

/** Default memory of a computer, in bytes. */
const usualMemory = 256 << 20;

const options = {
  drive: {
    value: 'SOURCE',
    multiple: true,
    completes: 'source',
    brief: 'a disk, such as nbd://server/disk.img,overlay=changes.img',
    about:
      'a disk: SOURCE with filters and words about the drive, such as ,overlay=FILE ,bus=ahci ,cdrom ' +
      '(farbus help sources, farbus help filters); several times for several disks',
  },
  reconnect: {
    value: 'SECONDS',
    default: '60',
    about: 'how long to try to restore a lost connection before the guest gets an I/O error',
  },
  snapshot: {
    value: 'FILE',
    brief: 'start from FILE; if there is none, boot and save to it',
    about:
      'start from FILE if it exists; otherwise boot, and save the computer to FILE. A damaged FILE is replaced; one ' +
      'that was made with another disk is refused, unless the drive has ,assume-same; one whose guest had used a disk ' +
      'that was written since is refused, too',
  },
  'snapshot-after': {
    value: 'TEXT',
    about: 'what a system of yours prints or shows when it has booted, for --snapshot and --detach',
  },
  'snapshot-force': {
    about:
      'continue from FILE even if a disk was written since. If the guest had mounted the disk, it destroys what is on it',
  },
  bios: {
    brief: 'boot the system that is on the first drive',
    about:
      'boot from the first drive that has a boot record: with its boot loader and its system. Only the firmware comes ' +
      'from this computer (SeaBIOS, from its Debian package)',
  },
  uefi: {
    about:
      'like --bios, with UEFI firmware (OVMF, from its Debian package): boots from a partition for UEFI. Needs the KVM ' +
      'engine; the console is the serial port',
  },
  'uefi-vars': {
    value: 'FILE',
    about:
      "with --uefi: keep UEFI's variables in FILE. By default they are kept beside the overlay of the first drive that " +
      'has one (OVERLAY.uefi-vars), or not at all',
  },
  screen: {
    about:
      'with --bios: show the screen of the computer in the terminal, in text modes, and send it the keys; this is the ' +
      'default if the output is a terminal',
  },
  serial: { about: 'with --bios: use the serial console instead; KVM has no screen, and always uses it' },
  name: {
    value: 'NAME',
    about: 'the name for farbus ps, stop, screenshot, type and media; by default computer, computer-2 and so on',
  },
  debian: { value: '11|12', choices: ['11', '12'], about: 'release of Debian: 12 by default; 11 has Linux 5.10' },
  with: {
    value: 'PACKAGES',
    multiple: true,
    brief: 'further Debian packages: tcpdump,nvme-cli',
    about: 'further Debian packages for its system, with what they need: --with tcpdump,nvme-cli',
  },
  kernel: { value: 'FILE', about: "a Linux bzImage instead of Debian's" },
  initrd: { value: 'FILE', about: 'an initramfs instead of ours' },
  append: { value: 'WORDS', about: "words for the kernel's command line" },
  memory: {
    value: 'SIZE',
    brief: 'memory of the computer (default 256M)',
    about: 'memory of the computer: 256M by default, more if --with needs it; at most 1G, with KVM 8G',
  },
  engine: {
    value: 'v86|kvm|auto',
    choices: engineWords,
    brief: 'v86 emulates a processor; kvm runs on the real one',
    about:
      'the processor: v86 emulates a 32-bit one anywhere; kvm runs 64-bit systems on the processor itself (Linux, see ' +
      'docs/kvm.md); auto takes kvm if it works here and can do what is asked for. Default: FARBUS_ENGINE, else auto',
  },
  cpus: { value: 'N', default: '1', about: 'number of processors: with KVM up to 8' },
  exec: {
    value: 'COMMAND',
    brief: 'run COMMAND in the guest, print its output, and end',
    about:
      "run COMMAND in a shell of the guest and print its output. COMMAND reads this program's input, unless that is a " +
      "terminal. In a script or a loop add </dev/null, or COMMAND takes the script's input",
  },
  timeout: {
    value: 'SECONDS',
    about:
      'with --exec: time limit for boot and command together; by default 300 for the boot and none for the command',
  },
  detach: {
    short: 'd',
    brief: 'run in the background, and return when the guest is up',
    about:
      'run in the background: print the name and how to reach the computer when its guest is up, and leave it ' +
      'running. A system started with --bios counts as up at once; --snapshot-after TEXT waits for TEXT',
  },
  config: {
    value: 'FILE',
    about: 'take drives, system, memory and more from a computer of this site file; options given here come first',
  },
  computer: { value: 'NAME', about: 'with --config: the computer, if the file has several' },
  trace: {
    value: 'FILE',
    alone: '',
    brief: 'print each step of every command with its time',
    about:
      "print each step of every command with its time; over NBD and AoE with the number by which the server's trace " +
      '(farbus serve --trace) knows it',
  },
  json: { about: 'with --exec: print output, status and counts as JSON' },
  quiet: { about: 'print no messages but warnings and errors' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'run',
  summary: 'start a computer whose disks are elsewhere',
  usage: ['[--drive [SOURCE][,FILTER]...[,bus=BUS][,cdrom|,removable]]... [OPTIONS]'],
  about: `
    The operating system of the computer is unmodified: Debian's kernel, which is fetched on first use, a kernel of
    yours, or with --bios the system on the drives. Each drive is an NVMe disk to it (/dev/nvme0n1, /dev/nvme1n1 and so
    on), or a disk on an AHCI or IDE adapter. Its console is your terminal; Ctrl-] leaves. farbus console, screenshot,
    type, media and stop are for a running computer.`,
  options,
  often: ['drive', 'bios', 'exec', 'snapshot', 'with', 'memory', 'engine', 'name', 'detach', 'trace'],
  topics: ['sources', 'filters'],
  statuses: [
    ['N', 'with --exec: COMMAND ended with exit status N'],
    [String(exitStatus.late), 'the time limit of --timeout passed'],
  ],
  examples: [
    'farbus run --drive nbd://localhost/disk.img',
    'farbus run --drive nbd://server/disk.img,overlay=changes.img',
    'farbus run --detach --name desk --drive nbd://server/disk.img && farbus console desk',
    'farbus run --bios --drive nbd://server/rescue.iso,cdrom --drive nbd://server/disk.img,bus=ahci --name desk',
    "farbus run --drive nbd://server/disk.img --with nvme-cli --exec 'nvme id-ctrl /dev/nvme0'",
    "farbus run --drive disk.img --snapshot guest.snap --exec 'cat /proc/partitions'",
  ],
  pages: ['run', 'filters'],
  operands: [],
  run,
});

type RunValues = Values<typeof options>;

async function run({ values: onLine, given, operands, args }: Given<typeof options>, io: CliIo): Promise<number> {
  if (operands.length > 0) throw usageError(`${operands[0]!} is not an option; did you mean --drive ${operands[0]!}?`);
  const values = await withProfile(onLine, given, io);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  checkFirmware(values);
  const own = (['kernel', 'initrd'] as const).find((name) => values[name] !== undefined);
  const option = own === undefined ? firmwareOption(values) : `--${own}`;
  if (values.snapshot !== undefined && option !== undefined && values['snapshot-after'] === undefined) {
    throw usageError(
      `--snapshot with ${option} needs --snapshot-after TEXT: what your guest prints when it has booted`,
    );
  }
  if (values['snapshot-force'] && values.snapshot === undefined) throw usageError('--snapshot-force is for --snapshot');
  const timeoutSeconds =
    values.timeout === undefined ? undefined : numberOption('timeout', values.timeout, 1, 1_000_000);
  if (timeoutSeconds !== undefined && values.exec === undefined) throw usageError('--timeout is for --exec');
  if (values.exec !== undefined) checkCommand(values.exec);
  const wanted = values.memory && wholeMiB(sizeOption('memory', values.memory, minMemory, largestMemory));
  const processors = numberOption('cpus', values.cpus, 1, mostProcessors);
  const terminal = (io.stdout as Partial<NodeJS.WriteStream>).isTTY === true;
  if (values.screen && !values.bios)
    throw usageError("--screen is for --bios: Debian's kernel has its console on the serial port");
  if (values.screen && !terminal) throw usageError('--screen needs a terminal; farbus screenshot needs none');
  checkDetach(values);
  const wantsScreen = values.screen || (values.bios && !values.serial && terminal);
  if (values.detach && !io.detached) return detach(['run', ...args], io);
  const log = stderrLogger(io, values.quiet || values.exec !== undefined);
  const progress = new ProgressLine(io);
  const closing: (() => Promise<unknown>)[] = [];
  const signals = onSignals();
  try {
    const without = 'farbus ps, screenshot, type and media will not find this computer';
    const enrolled = await enroll({ io, kind: 'computer', name: values.name, log, uses: values.drive, without });
    closing.push(() => enrolled.close());
    const steps = new Steps();
    if (values.trace !== undefined) {
      const trace = await TracePrinter.open(values.trace, io.stderr, log);
      closing.push(() => trace.close());
      steps.add(trace);
    }
    const drives: ClientDrive[] = [];
    const media = new Media(drives, { reconnectSeconds, log, steps }, values.drive);
    closing.push(() => media.close());
    const sources = values.drive.map(parseSource);
    for (const [index, source] of sources.entries()) {
      const { text } = source;
      const opening = openClientDrive(source, { reconnectSeconds, log, steps, signal: signals.signal });
      const drive = await signals.during(opening, (late) => late.device?.close());
      drives.push(drive);
      const { device } = drive;
      if (!device) continue;
      media.add(device, values.drive[index]!);
      log.log('info', `${text}: ${formatBytes(device.info.size)}${device.info.readOnly ? ', read-only' : ''}`);
      if (!device.info.can.flush && !device.info.readOnly) {
        log.log('warn', `${text}: the other side cannot promise that flushed data is durable`);
      }
    }
    const { bios, kernel, initrd } = values;
    const needs = { lacks: beyondKvm(values, drives), bios, kernel, initrd, memory: wanted || undefined };
    const engine = chooseEngine(values.engine ?? (values.uefi ? 'kvm' : undefined), io.env, needs);
    if (values.uefi && engine.name !== 'kvm') throw usageError('--uefi needs the KVM engine: take --engine kvm');
    if (engine.why !== undefined) log.log('info', engine.why);
    checkMachine(engine, wanted || 0, processors);
    const choosing = chooseGuest({
      signal: signals.signal,
      firmware: values.uefi ? 'uefi' : values.bios ? 'bios' : undefined,
      uefiVariables: values.uefi ? variablesFile(values, sources) : undefined,
      kernel: values.kernel,
      release: releaseOf(values),
      architecture: engine.architecture,
      tools: toolsOf(values),
      initrd: values.initrd,
      append: values.append,
      readyText: values['snapshot-after'],
      ahci: drives.map(planDrive).some(({ bus }) => bus === 'ahci'),
      ide: drives.some(({ bus }) => bus === 'ide'),
      log,
      onProgress: ({ label, done, total }) => progress.bytes(label, done, total),
    });
    const guest = await signals.during(choosing);
    const { firmware } = guest;
    const usual = values.config === undefined ? usualMemory : usualInSites[engine.architecture];
    const memory = memoryFor(guest, wanted || undefined, usual);
    const machine = { engine: engine.name, processors, firmware };
    const creating = createComputer(drives, memory, { steps, log, ...machine, onEject: media.ejected });
    const computer = await signals.during(creating, (late) => late.stop());
    closing.push(
      async () => guest.close?.(),
      () => computer.stop(),
    );
    media.setComputer(computer);
    const feed = new ConsoleFeed();
    computer.onSerial(collectBytes((bytes) => feed.add(bytes)));
    void computer.ended.then(() => feed.end());
    if (!io.detached) feed.use(consoleInUse(values), false);
    const { name } = enrolled;
    const saveSnapshot = (signal: AbortSignal, file = snapshotFile(io.env, name)) =>
      saveRunning(computer, guest, memory, file, signal);
    const handler = computerHandler({ computer, media, saveSnapshot, usesScreen: values.bios }, feed);
    const { exec: command, snapshot, json } = values;
    const where = onEngine(engine);
    const evenIfWritten = values['snapshot-force'];
    const session = { io, computer, guest, memory, snapshot, evenIfWritten, where, log };
    const facts = (state = 'running') => ({
      ...factsOf(name, values, media, computer.paused ? 'paused' : state),
      engine: engineText(engine),
    });
    const { detached } = io;
    if (detached) {
      computer.onSerial(collectBytes((bytes) => detached.output(bytes)));
      enrolled.serve(handler, () => facts('booting'));
      const booted = async (): Promise<void> => {
        enrolled.serve(handler, facts);
        await detached.ready([name, ...facts().reach, ''].join('\n'));
      };
      return await Promise.race([signals.received, background(session, booted)]);
    }
    enrolled.serve(handler, facts);
    if (command === undefined) return await Promise.race([signals.received, interactive(session, wantsScreen)]);
    const { signal } = signals;
    const { quiet } = values;
    const exec = { ...session, command, json, timeoutSeconds };
    return await execute({ ...exec, signal, log, quiet });
  } finally {
    progress.clear();
    for (const close of closing.reverse()) await close();
    signals.stop();
  }
}

/** The reason for which `farbus exec` is refused in a computer that has a terminal. */
function consoleInUse({ exec }: RunValues): string {
  if (exec !== undefined) return 'farbus run --exec uses the console of this computer: wait for its end';
  return 'the console is the terminal of farbus run: type there, or start the computer with --detach';
}

/** The computer for `farbus ps`. */
function factsOf(name: string, { bios }: RunValues, { uses, ways }: Media, state: string): Facts {
  const console = `farbus console ${name}`;
  return { state, uses, reach: bios ? [`farbus screenshot ${name} --text`, console] : [console], ...ways };
}

function releaseOf({ debian, kernel }: RunValues): DebianRelease | undefined {
  if (debian === undefined) return undefined;
  if (kernel !== undefined) throw usageError('--debian and --kernel exclude each other');
  return debian === '11' ? 11 : 12;
}

/** Needs of these options that the KVM engine does not meet yet. */
function beyondKvm({ debian, screen }: RunValues, drives: readonly ClientDrive[]): string[] {
  return [
    ...(screen ? ['a screen'] : []),
    ...(debian === '11' ? ['--debian 11'] : []),
    ...(drives.some(({ bus }) => bus === 'ide') ? ['bus=ide'] : []),
  ];
}

/** Names of packages from options such as "--with a,b". */
function toolsOf({ with: lists, kernel, initrd }: RunValues): string[] | undefined {
  if (lists.length === 0) return undefined;
  const other = kernel !== undefined ? '--kernel' : initrd !== undefined ? '--initrd' : undefined;
  if (other !== undefined)
    throw usageError(`--with is for Debian's system that comes with this program, not for ${other}`);
  const names = lists.flatMap((list) => list.split(',')).map((name) => name.trim());
  if (names.includes(''))
    throw usageError(`--with ${lists.join(',')}: expected names of packages, for example tcpdump,nvme-cli`);
  return names;
}

function checkDetach({ detach, exec, screen }: RunValues): void {
  if (!detach) return;
  if (exec !== undefined) throw usageError('--exec waits for its command: leave --detach out');
  if (screen) throw usageError('--detach leaves no terminal for --screen: use farbus screenshot');
}
