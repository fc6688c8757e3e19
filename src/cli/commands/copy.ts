/** `farbus copy`: copies any source to any other: sparse, resumable, and verified if requested. */
import { messageOf, usageError } from '../../base/errors.js';
import { formatBytes, formatMs } from '../../base/format.js';
import type { Logger } from '../../base/log.js';
import { jsonLine } from '../../base/printable.js';
import { withoutSecrets } from '../../base/web-address.js';
import type { BlockDevice } from '../../block/device.js';
import { tailError } from '../../block/tail.js';
import { CopyJob } from '../../app/copy/job.js';
import { filesOf } from '../../app/copy/start.js';
import { lookAtTarget, openTarget } from '../../app/copy/target.js';
import { filtersOf } from '../../app/filters.js';
import { parseSource } from '../../app/source-text.js';
import { openSource } from '../../app/sources.js';
import { defineCommand } from '../command.js';
import { exitStatus } from '../exit-status.js';
import { numberOption } from '../options.js';
import type { Given, Options } from '../table.js';
import { filterOptionsOf } from '../topics.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { noteSeconds, ProgressLine } from '../ui/progress.js';
import { Interrupted, onSignals } from '../ui/signals.js';
import { printDryRun } from './copy-dry-run.js';

/**
 * Connections to an NBD source whose server allows several. It processes them in parallel, and a
 * lost packet delays one of them only.
 */
const connections = 4;
/**
 * Time for requests in flight to end after SIGTERM or SIGINT, in ms. The copy can be resumed in any
 * case.
 */
const endMs = 5000;

const names = { resume: '--resume', assumeSame: '--assume-same' };

const options = {
  verify: { about: 'read both disks again afterwards and compare every byte' },
  resume: {
    brief: 'continue an interrupted copy',
    about: 'continue an interrupted copy, from the position up to which it is known to be durable',
  },
  'dry-run': {
    brief: 'print what the copy would do, and change nothing',
    about:
      'print what would be copied and what would be overwritten, refuse what the copy would refuse, and change nothing',
  },
  jobs: { value: 'N', default: '8', about: 'requests in flight at once, 1 to 64' },
  reconnect: {
    value: 'SECONDS',
    default: '60',
    brief: 'how long to wait for a lost connection (default 60)',
    about: 'how long to try to restore a lost connection before the copy stops',
  },
  json: { about: 'print the result as JSON' },
  progress: {
    about: `print the progress every ${noteSeconds} s on stderr where that is no terminal, as in a service`,
  },
  quiet: { about: 'print no progress and no messages but warnings and errors' },
  ...filterOptionsOf(['partition', 'offset', 'size', 'format', 'may-open', 'rate', 'assume-same']),
} as const satisfies Options;

export const command = defineCommand({
  name: 'copy',
  summary: 'copy one disk to another',
  usage: ['FROM[,FILTER]... TO[,FILTER]... [OPTIONS]'],
  about: `
    FROM is any SOURCE. TO is a SOURCE that can be written, or the path of a new file on this computer, which becomes
    sparse; with a name such as x.qcow2, or as qcow2:PATH, it becomes a disk image (qemu-img is needed). A file on another
    computer must exist: truncate -s SIZE FILE makes one there. Holes and zeroes are not transferred. The content of TO is
    overwritten; a device that is mounted or in use is refused. The command ends when all data is durable. The filters
    among the options apply to FROM.`,
  options,
  often: ['verify', 'resume', 'dry-run', 'partition', 'offset', 'size', 'rate', 'reconnect', 'json', 'quiet'],
  topics: ['sources'],
  notes: `
    A copy that stops (Ctrl-C, a lost connection, a bad block, a crash) continues with --resume: a small journal,
    TO.farbus-copy, is kept beside TO until the copy is complete; for TO on other computers, below ~/.local/state/farbus.
    With --resume, --assume-same asserts that these are the disks with which the copy was begun.`,
  examples: [
    'farbus copy nbd://server/disk1 disk1.img --verify',
    'farbus copy disk1.img /dev/sdb --dry-run',
    'farbus copy ssh://server/dev/sdb sdb2.img --partition 2 --rate 20M',
    'farbus copy vm.qcow2 /dev/sdb',
    'farbus copy /dev/sdb sdb.qcow2',
  ],
  pages: ['copy'],
  operands: 'source',
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [from, to, more] = operands;
  if (from === undefined || to === undefined) throw usageError('copy what to where? Give two: farbus copy FROM TO');
  if (more !== undefined) throw usageError(`farbus copy takes FROM and TO, and ${more} is a third`);
  const jobs = numberOption('jobs', values.jobs, 1, 64);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  const { 'dry-run': dryRun } = values;
  if (values.progress && values.quiet) throw usageError('give --progress or --quiet, not both');
  const filters = filtersOf(values);
  const [origin, place] = [parseSource(from), parseSource(to)];
  const log = stderrLogger(io, values.quiet || values.json);
  const stop = new AbortController();
  const signals = onSignals({ endMs });
  let interrupted: number | undefined;
  void signals.received.then((status) => {
    interrupted = status || exitStatus.terminated;
    stop.abort();
  });
  const opening = openSource(origin, {
    filters,
    readOnly: true,
    reconnectSeconds,
    log,
    signal: signals.signal,
    connections,
    whole: true,
    dryRun,
  });
  const source = await signals.during(opening, (late) => late.close());
  let target: BlockDevice | undefined;
  try {
    const incomplete = tailError(from, source.info);
    if (incomplete) throw incomplete;
    const { size } = source.info;
    const { resume } = values;
    const opts = { reconnectSeconds, log, signal: signals.signal, filters: { 'may-open': filters['may-open'] } };
    const assumeSame = filters['assume-same'] ?? false;
    const common = { from, to, ...filesOf(origin, place), source, assumeSame, resume, names, env: io.env, log };
    if (dryRun) {
      const looking = lookAtTarget(origin, place, size, resume, opts);
      const view = await signals.during(looking, (late) => late.device?.close());
      target = view.device;
      const { signal } = signals;
      return await signals.during(printDryRun({ ...common, ...values, target: view, signal }, io));
    }
    const making = openTarget(origin, place, size, resume, opts);
    const opened = await signals.during(making, (late) => late.device.close());
    target = opened.device;
    const { fresh } = opened;
    const { verify } = values;
    const job = new CopyJob({ ...common, target, fresh, jobs, verify, signal: stop.signal });
    return await report(job, { from: withoutSecrets(from), to: withoutSecrets(to), log, ...values }, io);
  } catch (error) {
    if (interrupted === undefined || error instanceof Interrupted) throw error;
    log.log('warn', messageOf(error));
    return interrupted;
  } finally {
    await target?.close().catch((error: unknown) => log.log('warn', `${to}: ${messageOf(error)}`));
    await source.close();
    signals.stop();
  }
}

interface ReportOptions {
  readonly from: string;
  readonly to: string;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly progress: boolean;
  readonly log: Logger;
}

/** Runs a copy, shows its progress and prints its result. */
async function report(
  job: CopyJob,
  { from, to, json, quiet, progress: notes, log }: ReportOptions,
  io: CliIo,
): Promise<number> {
  const progress = new ProgressLine(io, { notes });
  const shows = notes || (!quiet && !json && io.stderr.isTTY === true);
  try {
    await job.run((label, done, total) => void (shows && progress.bytes(label, done, total)));
  } catch (error) {
    progress.clear();
    if (json && job.begun) io.stdout.write(jsonLine({ from, to, ...job.state, error: (error as Error).message }));
    throw error;
  }
  progress.clear();
  const { size, start, seconds, copied, zeroes, verified } = job.state;
  if (json) io.stdout.write(jsonLine({ from, to, ...job.state }));
  const done = size - start;
  const rate = `${formatMs(seconds * 1000)}, ${formatBytes(done / Math.max(0.001, seconds))}/s`;
  const sparse = `${formatBytes(copied!)} of data, ${formatBytes(zeroes!)} of zeroes`;
  if (!json) log.log('info', `copied ${formatBytes(done)} (${sparse}) in ${rate}${verified ? '; verified' : ''}`);
  return exitStatus.done;
}
