/**
 * Sources: parses the text that names a device on the command line, and opens it as a BlockDevice.
 * A new protocol is one more line in {@link schemes}.
 */
import { usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';
import type { Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { Life } from '../block/life.js';
import type { BlockDevice } from '../block/device.js';
import { tailOf, tailWarning } from '../block/tail.js';
import { ExchangeableDrive } from '../block/exchangeable-drive.js';
import { MergeFilter } from '../block/filters/merge.js';
import { ReadAheadFilter } from '../block/filters/readahead.js';
import type { ClientDrive, DriveBus, DriveKind } from '../computer/drives.js';
import { beginLife } from '../storage/lives.node.js';
import { pathIdentity } from '../storage/opening.node.js';
import { openPath } from '../storage/open.node.js';
import { ReadyMemoryDevice } from '../storage/memory.js';
import { openAoe } from '../protocol/aoe/initiator/open.node.js';
import { openSshDd } from '../protocol/dd/open.node.js';
import { openRsh } from '../protocol/rsh/open.node.js';
import { openNbd } from '../protocol/nbd/initiator/open.node.js';
import { formatsOfName, imageFormats, type ImageFormat } from '../protocol/qemu/formats.js';
import { openImage } from '../protocol/qemu/open.node.js';
import { openSshSftp } from '../protocol/sftp/open.node.js';
import { openSsh } from '../protocol/ssh/open.node.js';
import {
  checked,
  filterFlags,
  filterInText,
  isListFilter,
  joined,
  openFiltered,
  type Filters,
  type SourceFormat,
} from './filters.js';
import { withFilterHint } from './filter-hint.js';
import { formatToOpen } from './source-format.js';

/** Options for opening a source. */
export interface SourceOptions {
  readonly readOnly?: boolean;
  /**
   * Open as a writer does, but the caller writes nothing: do not fence writers of earlier
   * processes.
   */
  readonly looksOnly?: boolean;
  /** Time to try to restore a lost connection before requests fail, in seconds. */
  readonly reconnectSeconds?: number;
  /**
   * Connections to an NBD server that allows several, if the source's text says nothing. Default 1.
   */
  readonly connections?: number | undefined;
  /** The user asserts that a disk found after a reconnect is the same if nothing else proves it. */
  readonly assumeSame?: boolean | undefined;
  /** Format of the bytes. Default: by the file's name (source-format.ts). */
  readonly format?: SourceFormat | undefined;
  /** Further files that an image may use, and folders whose files it may use. */
  readonly mayOpen?: readonly string[] | undefined;
  readonly log: Logger;
  /** For `--trace`: receives the id by which the other computer knows each command. */
  readonly steps?: Steps;
}

type Open = (text: string, options: SourceOptions & { readonly life?: Life }) => Promise<BlockDevice>;

const openMemory: Open = async (text, options) => {
  const size = parseBytes(text.slice('memory:'.length));
  if (!size || size % 512 !== 0 || size > 2 ** 32) throw usageError(`${text}: expected a size, for example memory:64M`);
  return new ReadyMemoryDevice(size, { readOnly: options.readOnly === true });
};

/**
 * Adds merging of adjacent requests and read-ahead, for protocols with a long wait for each request
 * ([SYS] fig. 13).
 */
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

/** The syntax of sources, for `--help`. */
export const sourceHelp = `A SOURCE is one of
  nbd://HOST[:PORT]/EXPORT              an NBD server's export
  nbd+unix:///EXPORT?socket=PATH        the same by a unix socket
  nbds://HOST/EXPORT?tls-certificates=FOLDER    the same over TLS (nbds+unix://; tls-psk-file=FILE)
  ssh://[USER@]HOST[:PORT]/PATH         a file or block device where only ssh is (ssh+sftp://, ssh+dd://)
  rsh://[USER@]HOST[:PORT]/PATH         the same by rsh: no encryption, no password
  aoe:SHELF.SLOT@SEGMENT                an AoE target on an Ethernet segment, for example aoe:1.0@eth0
  memory:SIZE                           memory, empty at first
  PATH                                  a file or block device of this computer: its bytes; of a file that is named
                                        *.qcow2, *.vmdk, *.vdi, *.vhdx, *.vhd … the disk in that image, by qemu-nbd
  qcow2:PATH, vmdk:PATH, raw:PATH …     the disk in an image of that format, or the bytes, whatever its name is`;

/**
 * Opens a source.
 * @throws FarbusError if it is invalid or cannot be opened
 */
export async function openSource(text: string, options: SourceOptions): Promise<BlockDevice> {
  for (const [prefix, open] of schemes) {
    if (!text.startsWith(prefix)) continue;
    if (options.format !== undefined && options.format !== 'raw') {
      throw usageError(
        `${text}: images are read from files of this computer only; attach it there, or give format raw`,
      );
    }
    return open === openMemory || options.readOnly || options.looksOnly
      ? open(text, options)
      : openToWrite(open, text, options);
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1];
  if (scheme) throw usageError(`${text}: no such kind of source: ${scheme}; see farbus run --help`);
  const format = sourceFormats.find((one) => text.startsWith(`${one}:`));
  if (format === undefined) return openLocal(text, options.format, options);
  return openLocal(text.slice(format.length + 1), format, options);
}

/** Opens a far source for writing, with a fence against earlier processes that wrote to it. */
async function openToWrite(open: Open, text: string, options: SourceOptions): Promise<BlockDevice> {
  const life = await beginLife(text, options.log);
  try {
    return await open(text, { ...options, life });
  } catch (error) {
    // Nothing was written.
    await life.close(true);
    throw error;
  }
}

/** The prefixes of a path that give the format of its bytes. */
export const sourceFormats: readonly SourceFormat[] = ['raw', ...imageFormats];

/** Opens a local path: its bytes, or the disk in an image. */
async function openLocal(path: string, said: SourceFormat | undefined, options: SourceOptions): Promise<BlockDevice> {
  const format = said ?? (await formatToOpen(path, options.log));
  // Lock the file: a second farbus must not write it at the same time.
  if (format === 'raw') return openPath(path, options.readOnly ? { readOnly: true } : { exclusive: true });
  const identity = await pathIdentity(path).catch(() => '');
  const { readOnly = false, mayOpen = [], log } = options;
  return openImage(path, { format, readOnly, mayOpen, identity, log });
}

/**
 * The path of a source that is raw bytes of a local file or device, by its prefix and name;
 * undefined for all others.
 */
export function plainPath(source: string): string | undefined {
  if (source.startsWith('raw:')) return source.slice('raw:'.length);
  return isLocalPath(source) && formatsOfName(source).length === 0 ? source : undefined;
}

/** The path of a local source, without a format prefix; undefined for all others. */
export function localPath(source: string): string | undefined {
  const format = sourceFormats.find((one) => source.startsWith(`${one}:`));
  if (format !== undefined) return source.slice(format.length + 1);
  return isLocalPath(source) ? source : undefined;
}

/** A disk image file and its format. */
export interface ImagePath {
  readonly path: string;
  readonly format: ImageFormat;
}

/**
 * The path and format of a source that is an image by its prefix or name; undefined for all others.
 */
export function imagePath(source: string): ImagePath | undefined {
  const said = imageFormats.find((one) => source.startsWith(`${one}:`));
  if (said !== undefined) return { path: source.slice(said.length + 1), format: said };
  const [format] = isLocalPath(source) && !source.startsWith('raw:') ? formatsOfName(source) : [];
  return format && { path: source, format };
}

/**
 * True if a source is a local file or device: its acknowledged writes survive the end of this
 * process.
 */
export function isLocalPath(source: string): boolean {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(source)) return false;
  return ![...schemes.map(([prefix]) => prefix), ...imageFormats.map((one) => `${one}:`)].some((prefix) =>
    source.startsWith(prefix),
  );
}

/** Options for opening SOURCE[,FILTER]... */
export interface OpenDriveOptions extends SourceOptions {
  /** Filters of the command. Those in the source's own text take precedence. */
  readonly filters?: Filters;
  /** Apply a rate limit. Default true. */
  readonly limit?: boolean;
  /**
   * The caller refuses a device whose last bytes are not addressable (block/tail.ts). Otherwise a
   * warning is logged.
   */
  readonly whole?: boolean;
}

/** Opens SOURCE[,FILTER]... (filters.ts). */
export async function openDrive(text: string, options: OpenDriveOptions): Promise<BlockDevice> {
  const drive = parseDrive(text);
  if (drive.bus || drive.kind !== 'disk' || drive.serial !== undefined || drive.model !== undefined) {
    throw usageError(`${text}: bus=, serial=, model=, cdrom and removable are about drives of farbus run --drive`);
  }
  return openParsed(drive, options);
}

/**
 * Opens an export of a server: like {@link openDrive}, and with `,removable` a drive whose medium
 * can be exchanged while it is served.
 */
export async function openExport(text: string, options: OpenDriveOptions): Promise<BlockDevice> {
  const drive = parseDrive(text);
  if (drive.kind !== 'removable' || drive.bus || drive.serial !== undefined || drive.model !== undefined) {
    return openDrive(text, options);
  }
  const medium = drive.source === '' ? undefined : await openParsed(drive, options);
  const readOnly = drive.filters.readOnly ?? options.readOnly ?? false;
  return new ExchangeableDrive({ identity: '', readOnly, rotational: false, blockSize: 512 }, medium);
}

/**
 * Opens a drive of a computer: like {@link openDrive}, with [,bus=nvme|ahci|ide] [,serial=TEXT]
 * [,model=TEXT] [,cdrom|,removable]. Without SOURCE the drive is empty.
 */
export async function openClientDrive(text: string, options: SourceOptions): Promise<ClientDrive> {
  const drive = parseDrive(text);
  const { bus, kind, serial, model, filters } = drive;
  const device = drive.source === '' ? undefined : await openParsed(drive, options);
  return { device, kind, serial, model, assumeSame: filters.assumeSame, ...(bus && { bus }) };
}

async function openParsed({ source, filters: own }: ParsedDrive, options: OpenDriveOptions): Promise<BlockDevice> {
  if (source === '') throw usageError('a drive without a source has to be a cdrom or removable');
  const filters = checked({ ...options.filters, ...own });
  const { format = options.format, mayOpen = options.mayOpen } = filters;
  const readOnly = filters.readOnly === true || options.readOnly === true;
  const { assumeSame } = filters;
  const device = await openFiltered(
    (never) =>
      openSource(source, {
        ...options,
        format,
        mayOpen,
        assumeSame,
        readOnly: never || readOnly,
      }).catch((error: unknown) => {
        throw withFilterHint(source, error, filterFlags);
      }),
    filters,
    options.limit,
  );
  if (!options.whole && tailOf(device.info) > 0) options.log.log('warn', tailWarning(source, device.info)!);
  return device;
}

/** The parts of a drive's text. */
export interface ParsedDrive {
  readonly source: string;
  readonly filters: Filters;
  readonly bus: DriveBus | undefined;
  readonly serial: string | undefined;
  readonly model: string | undefined;
  readonly kind: DriveKind;
}

/** Splits the options from the end of a drive's text. A comma elsewhere is part of the source. */
export function parseDrive(text: string): ParsedDrive {
  let source = text;
  let filters: Filters = {};
  let bus: string | undefined;
  let serial: string | undefined;
  let model: string | undefined;
  let kind: DriveKind = 'disk';
  const said = new Set<string>();
  for (;;) {
    const match = /^(.*),(?:(cdrom|removable)|bus=([^,]*)|([a-z-]+)(?:=([^,]*))?)$/s.exec(source);
    if (!match) break;
    const word = match[2] ? 'cdrom or removable' : match[3] !== undefined ? 'bus' : match[4]!;
    if (match[2]) kind = match[2] as DriveKind;
    else if (match[3] !== undefined) bus = match[3];
    else if (match[4] === 'serial') serial = saidText(match[5], 20, text);
    else if (match[4] === 'model') model = saidText(match[5], 40, text);
    else {
      const filter = filterInText(match[4]!, match[5], text);
      if (!filter) break;
      filters = joined(filters, filter);
    }
    // Two values: it is unclear which one is meant.
    if (said.has(word) && !isListFilter(word)) throw usageError(`${text}: ${word} is given twice: give it once`);
    said.add(word);
    source = match[1]!;
  }
  if (source === '' && kind === 'disk') throw usageError(`${JSON.stringify(text)} names no source`);
  if (bus !== undefined && bus !== 'nvme' && bus !== 'ahci' && bus !== 'ide') {
    throw usageError(`${text}: bus= is nvme, ahci or ide`);
  }
  if (kind !== 'disk' && bus !== undefined && bus !== 'ahci')
    throw usageError(`${text}: a ${kind} drive is on the bus ahci`);
  // An optical disc is never written.
  if (kind === 'cdrom' && filters.overlay === undefined) filters = { ...filters, readOnly: true };
  return { source, filters: checked(filters), bus, serial, model, kind };
}

/** Checks a serial number or model: printable ASCII, as the ATA and NVMe specifications require. */
function saidText(said: string | undefined, max: number, text: string): string {
  if (said === undefined || !/^[!-~]([ -~]*[!-~])?$/.test(said) || said.length > max) {
    throw usageError(`${text}: a serial number has 1 to 20 printable characters, a model 1 to 40`);
  }
  return said;
}
