/**
 * Sources: the text that names a device on the command line, and the BlockDevice that it becomes. The registry of what
 * there is: a new protocol is a new line in {@link schemes}.
 */
import { usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';
import type { Logger } from '../base/log.js';
import type { BlockDevice } from '../block/device.js';
import { MergeFilter } from '../block/filters/merge.js';
import { ReadAheadFilter } from '../block/filters/readahead.js';
import type { ClientDrive, DriveBus, DriveKind } from '../computer/drives.js';
import { openOverlayFile } from '../storage/overlay-file.node.js';
import { openPath } from '../storage/open.node.js';
import { MemoryDevice } from '../storage/memory.js';
import { openAoe } from '../protocol/aoe/initiator/open.node.js';
import { openSshDd } from '../protocol/dd/open.node.js';
import { openRsh } from '../protocol/dd/rsh.node.js';
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

/** For ways on which each request waits long: neighbours go as one, and who reads on finds it there ([SYS] fig. 13). */
const far =
  (open: Open): Open =>
  async (text, options) =>
    new ReadAheadFilter(new MergeFilter(await open(text, options)));

const schemes: readonly (readonly [prefix: string, open: Open])[] = [
  ['nbd://', openNbd],
  ['nbd+unix://', openNbd],
  ['nbds://', openNbd],
  ['nbds+unix://', openNbd],
  ['ssh://', far(openSsh)],
  ['ssh+sftp://', far(openSshSftp)],
  ['ssh+dd://', far(openSshDd)],
  ['rsh://', far(openRsh)],
  ['aoe:', openAoe],
  ['memory:', openMemory],
];

/** What sources look like, for `--help`. */
export const sourceHelp = `A SOURCE is one of
  nbd://HOST[:PORT]/EXPORT              an NBD server's export
  nbd+unix:///EXPORT?socket=PATH        the same by a unix socket
  ssh://[USER@]HOST[:PORT]/PATH         a file or block device where only ssh is (ssh+sftp://, ssh+dd://)
  rsh://[USER@]HOST[:PORT]/PATH         the same by rsh: no encryption, no password
  aoe:SHELF.SLOT@SEGMENT                an AoE target on an Ethernet segment, for example aoe:1.0@eth0
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

/** An export's device: SOURCE[,read-only][,overlay=FILE]. */
export async function openDrive(text: string, options: SourceOptions): Promise<BlockDevice> {
  const drive = parseDrive(text);
  if (drive.bus || drive.kind !== 'disk') {
    throw usageError(`${text}: bus=, cdrom and removable are about drives of farbus run --drive`);
  }
  return openParsed(drive, options);
}

/** A drive of a computer: as {@link openDrive}, and [,bus=nvme|ahci][,cdrom|,removable]; without SOURCE, an empty one. */
export async function openClientDrive(text: string, options: SourceOptions): Promise<ClientDrive> {
  const drive = parseDrive(text);
  const { bus, kind } = drive;
  const device = drive.source === '' ? undefined : await openParsed(drive, options);
  return { device, kind, ...(bus && { bus }) };
}

async function openParsed({ source, overlay, readOnly }: ParsedDrive, options: SourceOptions): Promise<BlockDevice> {
  if (source === '') throw usageError('a drive without a source has to be a cdrom or removable');
  if (overlay === undefined) {
    return openSource(source, { ...options, readOnly: readOnly || options.readOnly === true });
  }
  const base = await openSource(source, { ...options, readOnly: true });
  try {
    return await openOverlayFile(base, overlay);
  } catch (error) {
    await base.close();
    throw error;
  }
}

/** What a drive's text says. */
export interface ParsedDrive {
  readonly source: string;
  readonly readOnly: boolean;
  readonly overlay: string | undefined;
  readonly bus: DriveBus | undefined;
  readonly kind: DriveKind;
}

/** Takes the options off the end of a drive's text; a comma elsewhere belongs to the source. */
export function parseDrive(text: string): ParsedDrive {
  let source = text;
  let readOnly = false;
  let overlay: string | undefined;
  let bus: string | undefined;
  let kind: DriveKind = 'disk';
  for (;;) {
    const match = /^(.*),(?:(read-only)|(cdrom|removable)|bus=([^,]*)|overlay=([^,]*))$/s.exec(source);
    if (!match) break;
    source = match[1]!;
    if (match[2]) readOnly = true;
    else if (match[3]) kind = match[3] as DriveKind;
    else if (match[4] !== undefined) bus = match[4];
    else overlay = match[5];
  }
  if (source === '' && kind === 'disk') throw usageError(`${JSON.stringify(text)} names no source`);
  if (overlay === '') throw usageError(`${text}: overlay= needs a file`);
  if (overlay !== undefined && readOnly) throw usageError(`${text}: read-only and overlay= exclude each other`);
  if (bus !== undefined && bus !== 'nvme' && bus !== 'ahci') throw usageError(`${text}: bus= is nvme or ahci`);
  if (kind !== 'disk' && bus === 'nvme') throw usageError(`${text}: a ${kind} drive is on the bus ahci`);
  // Nothing is ever written on a disc.
  return { source, readOnly: readOnly || (kind === 'cdrom' && overlay === undefined), overlay, bus, kind };
}
