/**
 * Finds out how a copy between two open disks would begin: refuses disks that share bytes, and
 * reads the journal of an earlier copy. Changes nothing, so that a dry run does the same.
 */
import { FarbusError } from '../../base/errors.js';
import { formatBytes } from '../../base/format.js';
import type { Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { sharesBytes, type DiskIdentity } from '../../block/identity.js';
import { localPath, type Source } from '../source-text.js';
import { journalPath, readJournal, sourceEnd, staleness, targetEnd, type CopyEnd } from './journal.js';
import { sameError } from './target.js';

/** How a user of the command line, or of the library, writes options of a copy. */
export interface OptionNames {
  readonly resume: string;
  readonly assumeSame: string;
}

/** A copy that is about to begin. */
export interface CopyStartOptions {
  /** The texts of source and target, for messages and the journal. */
  readonly from: string;
  readonly to: string;
  /** The paths of {@link filesOf}. Default: the texts. */
  readonly fromFile?: string | undefined;
  readonly toFile?: string | undefined;
  readonly source: BlockDevice;
  /** Undefined if the copy will make it as a file. */
  readonly target: BlockDevice | undefined;
  readonly resume: boolean;
  /** The user asserts that these are the disks of the copy that is resumed. */
  readonly assumeSame: boolean;
  /** How the user writes the two options, for messages. */
  readonly names: OptionNames;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** The files of this computer that the texts of source and target name. */
export function filesOf(from: Source, to: Source): Pick<CopyStartOptions, 'fromFile' | 'toFile'> {
  // A journal beside a file is about the whole file.
  return { fromFile: localPath(from), toFile: to.words.length === 0 ? localPath(to) : undefined };
}

/** How a copy begins. */
export interface CopyStart {
  /** The path of its journal. */
  readonly journal: string;
  /** The first byte to copy. */
  readonly position: number;
  /** The source at the start of this run, if the journal was compared with it. */
  readonly source?: CopyEnd;
}

/**
 * Finds the first byte to copy and logs what the user should know before the copy.
 * @throws FarbusError if source and target share bytes, or the copy cannot be resumed
 */
export async function findStart(options: CopyStartOptions): Promise<CopyStart> {
  const { to, toFile = to, source, target, env, log } = options;
  checkApart(options);
  if (target) tellTarget(to, source.info.size, target, log);
  const journal = await journalPath(to, toFile, env, { madeAsFile: target === undefined });
  return { journal, ...(await findPosition(journal, options)) };
}

/** @throws FarbusError if source and target share bytes */
function checkApart({ from, to, source, target }: CopyStartOptions): void {
  if (!target) return;
  // Compare without the format suffix: an image and the file that holds it are also the same.
  const [one, other] = [source, target].map(({ info }) => info.identity.replace(/#[a-z0-9]+$/, ''));
  const identity = ({ info: { size, marks = {} } }: BlockDevice): DiskIdentity => ({ size, marks });
  if ((one !== '' && one === other) || sharesBytes(identity(source), identity(target))) {
    throw sameError(from, to);
  }
}

function tellTarget(to: string, size: number, { info }: BlockDevice, log: Logger): void {
  if (info.size > size) log.log('info', `${to} is larger: its last ${info.size - size} bytes stay`);
  if (!info.can.flush) log.log('warn', `${to}: the other side cannot promise that flushed data is durable`);
}

async function findPosition(path: string, options: CopyStartOptions): Promise<Omit<CopyStart, 'journal'>> {
  const { from, fromFile = from, to, source, target, resume, assumeSame, names, log, signal } = options;
  const journal = await readJournal(path);
  if (!resume) {
    if (journal && journal.position > 0) {
      const hint = `${names.resume} would have continued it`;
      log.log('info', `an unfinished copy to ${to} starts again from its beginning: ${hint}`);
    }
    return { position: 0 };
  }
  const fromStart = `leave ${names.resume} out to copy from the start`;
  if (!journal) {
    throw new FarbusError(`there is nothing to resume: ${path} is not there; ${fromStart}`);
  }
  const now = await sourceEnd(fromFile, source, { signal });
  const why = target
    ? await staleness(journal, { source, target, from: now, to: targetEnd(target), assumeSame, names, signal })
    : 'the target no longer has what was copied';
  if (why !== undefined) {
    throw new FarbusError(`cannot resume the copy to ${to}: ${why}; ${fromStart}`);
  }
  log.log('info', `going on at ${formatBytes(journal.position)} (${journal.position} bytes)`);
  return { position: journal.position, source: now };
}
