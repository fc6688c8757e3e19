/** `farbus copy`: copies any source to any other: sparse, resumable, and verified if requested. */
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { formatBytes, formatMs } from '../../base/format.js';
import type { Logger } from '../../base/log.js';
import { jsonLine } from '../../base/printable.js';
import { compareDevices } from '../../block/compare.js';
import { copyDevice, CopyFailure, type CopyResult } from '../../block/copy.js';
import type { BlockDevice } from '../../block/device.js';
import { sharesBytes, type DiskIdentity } from '../../block/identity.js';
import { tailError } from '../../block/tail.js';
import {
  journalPath,
  readJournal,
  removeJournal,
  sourceEnd,
  staleness,
  targetEnd,
  writeJournal,
  type CopyEnd,
} from '../../app/copy/journal.js';
import { openTarget } from '../../app/copy/target.js';
import { filtersOf } from '../../app/filters.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { exitStatus } from '../exit-status.js';
import { failed, numberOption } from '../options.js';
import { ProgressLine } from '../ui/progress.js';
import { Interrupted, onSignals } from '../ui/signals.js';
import { parseSource } from '../../app/source-text.js';
import { openSource } from '../../app/sources.js';
import { filterOptionsOf } from '../topics.js';

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

const options = {
  verify: { about: 'read both disks again afterwards and compare every byte' },
  resume: { about: 'continue an interrupted copy, from the position up to which it is known to be durable' },
  jobs: { value: 'N', default: '8', about: 'requests in flight at once, 1 to 64' },
  reconnect: {
    value: 'SECONDS',
    default: '60',
    about: 'how long to try to restore a lost connection before the copy stops',
  },
  json: { about: 'print the result as JSON' },
  quiet: { about: 'print no progress and no messages but warnings and errors' },
  ...filterOptionsOf(['partition', 'offset', 'size', 'format', 'may-open', 'rate', 'assume-same']),
} as const satisfies Options;

export const command = defineCommand({
  name: 'copy',
  summary: 'copy one disk to another',
  usage: ['FROM[,FILTER]... TO[,FILTER]... [OPTIONS]'],
  about: `
    FROM is any SOURCE. TO is a SOURCE that can be written, or the path of a new file, which becomes sparse; with a name
    such as x.qcow2, or as qcow2:PATH, it becomes a disk image (qemu-img is needed). Holes and zeroes are not transferred.
    The content of TO is overwritten; a device that is mounted or in use is refused. The command ends when all data is
    durable. The filters among the options apply to FROM.`,
  options,
  topics: ['sources'],
  notes: `
    A copy that stops (Ctrl-C, a lost connection, a bad block, a crash) continues with --resume: a small journal,
    TO.farbus-copy, is kept beside TO until the copy is complete; for TO on other computers, below ~/.local/state/farbus.
    With --resume, --assume-same asserts that these are the disks with which the copy was begun.`,
  examples: [
    'farbus copy nbd://server/disk1 disk1.img --verify',
    'farbus copy disk1.img /dev/sdb',
    'farbus copy ssh://server/dev/sdb sdb2.img --partition 2 --rate 20M',
    'farbus copy vm.qcow2 /dev/sdb',
    'farbus copy /dev/sdb sdb.qcow2',
  ],
  pages: ['copy'],
  operands: 'file',
  run,
});

interface Values {
  readonly verify: boolean;
  readonly resume: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** The result printed at the end. */
interface Report extends Partial<CopyResult> {
  readonly size: number;
  /** Start position of this run, in bytes. */
  readonly start: number;
  /** All bytes before this position are copied and durable. */
  readonly position: number;
  readonly verified: boolean;
  readonly seconds: number;
  readonly error?: string;
}

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [from, to, more] = operands;
  if (from === undefined || to === undefined) throw usageError('copy what to where? Give two: farbus copy FROM TO');
  if (more !== undefined) throw usageError(`farbus copy takes FROM and TO, and ${more} is a third`);
  const jobs = numberOption('jobs', values.jobs, 1, 64);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  const filters = filtersOf(values);
  const place = parseSource(to);
  const log = stderrLogger(io, values.quiet || values.json);
  const stop = new AbortController();
  const signals = onSignals({ endMs });
  let interrupted: number | undefined;
  void signals.received.then((status) => {
    interrupted = status || exitStatus.terminated;
    stop.abort();
  });
  const opening = openSource(parseSource(from), {
    filters,
    readOnly: true,
    reconnectSeconds,
    log,
    signal: signals.signal,
    connections,
    whole: true,
  });
  const source = await signals.during(opening, (late) => late.close());
  let target: BlockDevice | undefined;
  try {
    const incomplete = tailError(from, source.info);
    if (incomplete) throw incomplete;
    const opened = await signals.during(
      openTarget(place, source.info.size, values.resume, {
        reconnectSeconds,
        log,
        signal: signals.signal,
        filters: { 'may-open': filters['may-open'] },
      }),
      (late) => late.device.close(),
    );
    target = opened.device;
    const assumeSame = filters['assume-same'] ?? false;
    const { fresh } = opened;
    const job = new Job({ from, to, source, target, fresh, jobs, assumeSame, values, io, log, signal: stop.signal });
    return await job.run();
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

interface JobOptions {
  readonly from: string;
  readonly to: string;
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  readonly fresh: boolean;
  readonly jobs: number;
  readonly assumeSame: boolean;
  readonly values: Values;
  readonly io: CliIo;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** A copy between two open devices. */
class Job {
  readonly #options: JobOptions;
  readonly #progress: ProgressLine;
  readonly #started = performance.now();
  #found: Promise<CopyEnd> | undefined;

  constructor(options: JobOptions) {
    this.#options = options;
    this.#progress = new ProgressLine(options.io);
  }

  async run(): Promise<number> {
    const { from, to, source, target, fresh, jobs, values, log, signal } = this.#options;
    const [one, other] = [source, target].map(({ info }) => info.identity.replace(/#[a-z0-9]+$/, ''));
    // Compare without the format suffix: an image and the file that holds it are also the same.
    const identity = ({ info: { size, marks = {} } }: BlockDevice): DiskIdentity => ({ size, marks });
    if ((one !== '' && one === other) || sharesBytes(identity(source), identity(target))) {
      throw usageError(`${from} and ${to} are the same: give another place to copy to`);
    }
    const { size } = source.info;
    if (target.info.size > size) log.log('info', `${to} is larger: its last ${target.info.size - size} bytes stay`);
    if (!target.info.can.flush) log.log('warn', `${to}: the other side cannot promise that flushed data is durable`);
    const path = await journalPath(to, this.#options.io.env);
    const start = await this.#start(path);
    let position = start;
    try {
      const result = await copyDevice(source, target, {
        jobs,
        start,
        fresh: fresh && start === 0,
        signal,
        onProgress: (at) => this.#show('copied', at, size),
        checkpoint: (at) => this.#note(path, (position = at)),
      });
      // The copy is complete. Resuming it would not repair a difference that --verify finds.
      await removeJournal(path);
      if (values.verify) await this.#verify(size);
      this.#progress.clear();
      this.#report({ ...result, size, start, position: size, verified: values.verify, seconds: this.#seconds() });
      return 0;
    } catch (error) {
      this.#progress.clear();
      const failure = this.#explain(error, position);
      const seconds = this.#seconds();
      if (values.json) {
        this.#report({ size, start, position, verified: false, seconds, error: failure.message });
      }
      throw failure;
    }
  }

  /**
   * Returns the first byte to copy. Writes the journal of a new copy at once, so that it can always
   * be resumed.
   */
  async #start(path: string): Promise<number> {
    const { to, source, target, values, log } = this.#options;
    const journal = await readJournal(path);
    if (!values.resume) {
      if (journal && journal.position > 0) {
        log.log(
          'info',
          `an unfinished copy to ${to} starts again from its beginning: --resume would have continued it`,
        );
      }
      await this.#note(path, 0);
      return 0;
    }
    if (!journal) {
      throw new FarbusError(
        `there is nothing to resume: ${path} is not there; leave --resume out to copy from the start`,
      );
    }
    const { assumeSame } = this.#options;
    const ends = { source, target, from: await this.#from(), to: targetEnd(target), assumeSame };
    const why = await staleness(journal, ends);
    if (why !== undefined) {
      throw new FarbusError(`cannot resume the copy to ${to}: ${why}; leave --resume out to copy from the start`);
    }
    log.log('info', `going on at ${formatBytes(journal.position)} (${journal.position} bytes)`);
    return journal.position;
  }

  /** Identity of the source at the start of this run. */
  #from(): Promise<CopyEnd> {
    const { from, source } = this.#options;
    return (this.#found ??= sourceEnd(from, source));
  }

  async #note(path: string, position: number): Promise<void> {
    const { target, log } = this.#options;
    try {
      await writeJournal(path, { version: 2, from: await this.#from(), to: targetEnd(target), position });
    } catch (error) {
      // Continue without a journal: a copy that cannot be resumed is better than none.
      if (position === 0)
        log.log('warn', `cannot keep a journal in ${path} (${messageOf(error)}): --resume will not work`);
    }
  }

  async #verify(size: number): Promise<void> {
    const { from, to, source, target, jobs, signal } = this.#options;
    const onProgress = (bytes: number): void => this.#show('verified', bytes, size);
    const at = await compareDevices(source, target, { jobs, signal, onProgress }).catch((error: unknown) => {
      throw failed(`cannot verify the copy of ${from}`, error);
    });
    if (at !== undefined) {
      throw new FarbusError(`${from} and ${to} differ at byte ${at}: the copy is not good; was one of them written?`);
    }
  }

  #explain(error: unknown, position: number): FarbusError {
    const { from, to, source, signal } = this.#options;
    const where = `${formatBytes(position)} of ${formatBytes(source.info.size)} are copied and durable`;
    if (signal.aborted) return new FarbusError(`stopped: ${where}; the same command with --resume continues`);
    if (!(error instanceof CopyFailure)) return failed('the copy failed', error);
    const what =
      error.side === undefined
        ? 'the copy failed'
        : `cannot ${error.side === 'from' ? `read ${from}` : `write ${to}`} at byte ${error.at!}`;
    const message = `${what}: ${messageOf(error.cause)}; ${where}, --resume continues from there`;
    return new FarbusError(message, { cause: error });
  }

  #show(label: string, done: number, total: number): void {
    const { values, io } = this.#options;
    if (!values.quiet && !values.json && io.stderr.isTTY) this.#progress.bytes(label, done, total);
  }

  #report(report: Report): void {
    const { from, to, values, io, log } = this.#options;
    if (values.json) return void io.stdout.write(jsonLine({ from, to, ...report }));
    const done = report.size - report.start;
    const rate = `${formatMs(report.seconds * 1000)}, ${formatBytes(done / Math.max(0.001, report.seconds))}/s`;
    const sparse = `${formatBytes(report.copied!)} of data, ${formatBytes(report.zeroes!)} of zeroes`;
    log.log('info', `copied ${formatBytes(done)} (${sparse}) in ${rate}${report.verified ? '; verified' : ''}`);
  }

  #seconds(): number {
    return Math.round(performance.now() - this.#started) / 1000;
  }
}
