/** `farbus run`: a client computer whose disks are elsewhere. */
import { usageError } from '../base/errors.js';
import { formatBytes } from '../base/format.js';
import { Steps } from '../base/steps.js';
import type { ClientComputer } from '../computer/client.js';
import { planDrive, type ClientDrive } from '../computer/drives.js';
import { chooseGuest, createComputer, startGuest } from './computer.js';
import { stderrLogger, type CliIo } from './io.js';
import { numberOption, parseOptions, sizeOption } from './options.js';
import { ProgressLine } from './progress.js';
import { openClientDrive, sourceHelp } from './sources.js';
import { onSignals } from './signals.js';
import { attachTerminal } from './terminal.js';
import { TracePrinter } from './trace.js';

export const help = `farbus run: start a computer whose disks are elsewhere

Usage: farbus run [--drive [SOURCE][,FILTER]...[,bus=BUS][,cdrom|,removable]]... [OPTIONS]

The computer's operating system is an unmodified one: Debian's i386 kernel, fetched on first use, or one of yours. Each
drive is an NVMe disk to it (/dev/nvme0n1, /dev/nvme1n1 …), or on an AHCI adapter. Its console is your terminal; Ctrl-]
leaves.

${sourceHelp}

Options:
  --drive SOURCE       a disk; with ,read-only the guest cannot write it; with ,overlay=FILE what it writes goes to FILE,
                       and the source stays as it is; ,cache=FILE ,partition=N ,rate=BYTES and the other filters as in
                       farbus attach --help; with ,bus=ahci a SATA disk (/dev/sda …); with ,cdrom a CD/DVD drive
                       (/dev/sr0 …) and with ,removable a removable disk, both empty where there is no SOURCE
  --reconnect SECONDS  how long a lost connection is tried again before the guest gets an I/O error (default 60)
  --snapshot FILE      start from FILE where it exists; else boot, and save the computer to FILE
  --snapshot-after TEXT  what a guest of yours prints when it has booted
  --kernel FILE        a Linux bzImage instead of Debian's
  --initrd FILE        an initramfs instead of ours
  --append WORDS       words for the kernel's command line
  --memory SIZE        the computer's memory (default 256M)
  --exec COMMAND       run COMMAND in the guest's shell, print its output and end with its exit status
  --trace[=FILE]       print every step of every command with its time
  --json               with --exec: print output, status and counts as JSON
  --quiet              no messages but warnings and errors

Examples:
  farbus run --drive nbd://localhost/disk.img
  farbus run --drive nbd://server/disk.img,overlay=changes.img
  farbus run --drive disk.img --snapshot guest.snap --exec 'fdisk -l /dev/nvme0n1'
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('run', splitTrace(args), {
    allowPositionals: true,
    options: {
      drive: { type: 'string', multiple: true, default: [] },
      reconnect: { type: 'string', default: '60' },
      snapshot: { type: 'string' },
      'snapshot-after': { type: 'string' },
      kernel: { type: 'string' },
      initrd: { type: 'string' },
      append: { type: 'string' },
      memory: { type: 'string', default: '256M' },
      exec: { type: 'string' },
      trace: { type: 'string' },
      json: { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
    },
  });
  if (positionals.length > 0)
    throw usageError(`${positionals[0]!} is not an option; did you mean --drive ${positionals[0]!}?`);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  const memory = sizeOption('memory', values.memory, 64 << 20, 1 << 30) & ~0xfffff;
  if (values.snapshot !== undefined && values.kernel !== undefined && values['snapshot-after'] === undefined) {
    throw usageError('--snapshot with --kernel needs --snapshot-after TEXT: what your guest prints when it has booted');
  }
  const log = stderrLogger(io, values.quiet || values.exec !== undefined);
  const progress = new ProgressLine(io);
  const closing: (() => Promise<unknown>)[] = [];
  const signals = onSignals();
  try {
    const steps = new Steps();
    if (values.trace !== undefined) {
      const trace = await TracePrinter.open(values.trace, io);
      closing.push(() => trace.close());
      steps.add(trace);
    }
    const drives: ClientDrive[] = [];
    for (const text of values.drive) {
      const drive = await openClientDrive(text, { reconnectSeconds, log });
      drives.push(drive);
      const { device } = drive;
      if (!device) continue;
      closing.push(() => device.close());
      log.log('info', `${text}: ${formatBytes(device.info.size)}${device.info.readOnly ? ', read-only' : ''}`);
      if (!device.info.can.flush && !device.info.readOnly) {
        log.log('warn', `${text}: the other side cannot promise that flushed data is durable`);
      }
    }
    const guest = await chooseGuest({
      kernel: values.kernel,
      initrd: values.initrd,
      append: values.append,
      mark: values['snapshot-after'],
      ahci: drives.map(planDrive).some(({ bus }) => bus === 'ahci'),
      log,
      onProgress: ({ label, done, total }) => progress.bytes(label, done, total),
    });
    const computer = await createComputer(drives, memory, { steps, log });
    closing.push(() => computer.stop());
    const body = values.exec === undefined ? interactive : execute;
    return await Promise.race([signals.received, body({ io, computer, guest, memory, log, values })]);
  } finally {
    signals.stop();
    progress.clear();
    for (const close of closing.reverse()) await close();
  }
}

interface Session {
  readonly io: CliIo;
  readonly computer: ClientComputer;
  readonly guest: Awaited<ReturnType<typeof chooseGuest>>;
  readonly memory: number;
  readonly log: ReturnType<typeof stderrLogger>;
  readonly values: { snapshot?: string; exec?: string; json: boolean };
}

async function interactive({ io, computer, guest, memory, log, values }: Session): Promise<number> {
  log.log('info', `${guest.version} starts; Ctrl-] leaves`);
  computer.onSerial((byte) => io.stdout.write(Uint8Array.of(byte)));
  const terminal = attachTerminal(io, (bytes) => computer.sendSerial(bytes));
  try {
    const start = startGuest(computer, guest, values.snapshot, memory).then((result) => {
      if (result.from === 'snapshot') computer.console.send('\n');
      if (result.saved !== undefined) log.log('info', `saved to ${values.snapshot!}`);
    });
    const over = Promise.race([terminal.left.then(() => 'left' as const), computer.ended]);
    await Promise.race([start, over]);
    const why = await over;
    if (why !== 'left') log.log('info', `the guest ${why === 'halted' ? 'has halted' : 'asked for a restart'}`);
    else io.stderr.write('\n');
    return 0;
  } finally {
    terminal.stop();
  }
}

async function execute({ io, computer, guest, memory, values }: Session): Promise<number> {
  const started = await startGuest(computer, guest, values.snapshot, memory);
  const { output, status } = await computer.console.run(values.exec!, 3_600_000);
  if (values.json) {
    io.stdout.write(`${JSON.stringify({ output, status, started, counts: computer.counts })}\n`);
  } else {
    io.stdout.write(output);
  }
  return status;
}

/** `--trace` alone means stderr: parseArgs wants a value for an option that can have one. */
function splitTrace(args: readonly string[]): string[] {
  return args.map((arg) => (arg === '--trace' ? '--trace=' : arg));
}
