/**
 * Sources: the text that names a device on the command line, and the BlockDevice that it becomes. The registry of what
 * there is: a new protocol is a new line in {@link schemes}.
 */
import { usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';
import type { Logger } from '../base/log.js';
import type { BlockDevice } from '../block/device.js';
import { openOverlayFile } from '../storage/overlay-file.node.js';
import { openPath } from '../storage/open.node.js';
import { MemoryDevice } from '../storage/memory.js';
import { openSshDd } from '../protocol/dd/open.node.js';
import { openNbd } from '../protocol/nbd/initiator/open.node.js';
import { openSshSftp } from '../protocol/sftp/open.node.js';
import { openSsh } from '../protocol/ssh/open.node.js';

export interface SourceOptions {
  readonly readOnly?: boolean;
  /** Seconds that a lost connection is tried again before requests fail. */
  readonly reconnectSeconds?: number;
  readonly log: Logger;
}

type Open = (text: string, options: SourceOptions) => Promise<BlockDevice>;

const openMemory: Open = async (text, options) => {
  const size = parseBytes(text.slice('memory:'.length));
  if (!size || size % 512 !== 0 || size > 2 ** 32) throw usageError(`${text}: expected a size, for example memory:64M`);
  return new MemoryDevice(size, { readOnly: options.readOnly === true });
};

const schemes: readonly (readonly [prefix: string, open: Open])[] = [
  ['nbd://', openNbd],
  ['nbd+unix://', openNbd],
  ['nbds://', openNbd],
  ['nbds+unix://', openNbd],
  ['ssh://', openSsh],
  ['ssh+sftp://', openSshSftp],
  ['ssh+dd://', openSshDd],
  ['memory:', openMemory],
];

/** What sources look like, for `--help`. */
export const sourceHelp = `A SOURCE is one of
  nbd://HOST[:PORT]/EXPORT              an NBD server's export
  nbd+unix:///EXPORT?socket=PATH        the same by a unix socket
  ssh://[USER@]HOST[:PORT]/PATH         a file or block device where only ssh is (ssh+sftp://, ssh+dd://)
  memory:SIZE                           memory, empty at first
  PATH                                  a file or block device of this computer`;

/** Opens a source. @throws FarbusError where it is not one or cannot be had. */
export function openSource(text: string, options: SourceOptions): Promise<BlockDevice> {
  for (const [prefix, open] of schemes) if (text.startsWith(prefix)) return open(text, options);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1];
  if (scheme) throw usageError(`${text}: no such kind of source: ${scheme}; see farbus run --help`);
  // One writer: a lock keeps a second farbus off a file that this one writes.
  return openPath(text, options.readOnly ? { readOnly: true } : { exclusive: true });
}

/** Whether a source is a file or device of this computer: what it has acknowledged survives the end of a process. */
export function isLocalPath(source: string): boolean {
  return !schemes.some(([prefix]) => source.startsWith(prefix));
}

/** A drive of a computer or an export: SOURCE[,read-only][,overlay=FILE]. */
export async function openDrive(text: string, options: SourceOptions): Promise<BlockDevice> {
  const { source, overlay, ...drive } = parseDrive(text);
  const readOnly = drive.readOnly || options.readOnly === true;
  if (overlay === undefined) return openSource(source, { ...options, readOnly });
  const base = await openSource(source, { ...options, readOnly: true });
  try {
    return await openOverlayFile(base, overlay);
  } catch (error) {
    await base.close();
    throw error;
  }
}

/** Takes the options off the end of a drive's text; a comma elsewhere belongs to the source. */
export function parseDrive(text: string): { source: string; readOnly: boolean; overlay: string | undefined } {
  let source = text;
  let readOnly = false;
  let overlay: string | undefined;
  for (;;) {
    const match = /^(.*),(?:(read-only)|overlay=([^,]*))$/s.exec(source);
    if (!match) break;
    source = match[1]!;
    if (match[2]) readOnly = true;
    else overlay = match[3];
  }
  if (source === '') throw usageError(`${JSON.stringify(text)} names no source`);
  if (overlay === '') throw usageError(`${text}: overlay= needs a file`);
  if (overlay !== undefined && readOnly) throw usageError(`${text}: read-only and overlay= exclude each other`);
  return { source, readOnly, overlay };
}
