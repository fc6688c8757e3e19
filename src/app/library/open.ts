/** Opens sources by their texts, for programs: the library's form of sources.ts. */
import { silent, type Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import { KeptOpenFilter } from '../../block/filters/kept-open.js';
import { parseSource } from '../source-text.js';
import { openSource as openParsed } from '../sources.js';

/** Options of {@link openSource}. */
export interface OpenSourceOptions {
  /**
   * If true, the device refuses writes, and its source is opened for reading only. Default false.
   */
  readonly readOnly?: boolean;
  /**
   * How long requests wait for a lost connection to another computer, in seconds; then they fail.
   * 0: they fail at once. Default 60.
   */
  readonly reconnectSeconds?: number;
  /** Connections to an NBD server that allows several, 1 to 16. Default 1. */
  readonly connections?: number;
  /** Ends the opening, which then rejects with the signal's reason. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
  /** Receives warnings, and lost and restored connections. Default: nothing is logged. */
  readonly log?: Logger;
  /** Receives the steps of each request, for traces. */
  readonly steps?: Steps;
}

/**
 * Opens a disk by its text, as the command line has it: `SOURCE[,FILTER]...`. `farbus help sources`
 * and `farbus help filters` list the forms. Relative paths start at the working directory.
 *
 * @param text for example `disk.img`, `/dev/sdb,partition=2`, `nbd://server/disk`,
 * `ssh://server/dev/sdb,overlay=changes.img` or `memory:64M`
 * @returns the device; close it when you are done
 * @throws FarbusError if the text is wrong (kind `usage`) or the disk cannot be opened
 *
 * @example
 * ```ts
 * import { openSource } from 'farbus/node';
 *
 * const disk = await openSource('nbd://server/disk.img,overlay=changes.img');
 * await disk.write(0, new Uint8Array(512));
 * await disk.flush();
 * await disk.close();
 * ```
 */
export async function openSource(text: string, options: OpenSourceOptions = {}): Promise<BlockDevice> {
  return openParsed(parseSource(text), { log: silent, ...options });
}

/**
 * Opens a text; wraps a device so that the caller's own device stays open when the result is
 * closed.
 */
export async function openOrKeep(disk: string | BlockDevice, options: OpenSourceOptions): Promise<BlockDevice> {
  return typeof disk === 'string' ? openSource(disk, options) : new KeptOpenFilter(disk);
}
