/**
 * Parses the text of a source, `SOURCE[,FILTER]...`, to a value. Commands, settings and control
 * sockets parse each text once, here, and pass the value on.
 */
import { resolve } from 'node:path';
import { usageError } from '../base/errors.js';
import type { DriveBus, DriveKind } from '../computer/drives.js';
import { formatsOfName, imageFormats, type ImageFormat } from '../protocol/qemu/formats.js';
import type { SourceFormat } from '../protocol/qemu/options.js';
import { withAbsoluteFiles } from '../protocol/remote/uri.js';
import { checked, filterInText, isFileFilter, isListFilter, joined, type Filters } from './filters.js';
import { sourceHint } from './source-hint.js';
import { sourceKinds, type SourceKind } from './source-kinds.js';

/** Where the bytes of a source are. */
export type Place =
  /** Nowhere: a drive without a medium. */
  | { readonly kind: 'none' }
  /** A file or block device of this computer; `format` if the text has a prefix such as `raw:`. */
  | { readonly kind: 'local'; readonly path: string; readonly format: SourceFormat | undefined }
  | { readonly kind: 'other'; readonly source: SourceKind };

/** A parsed SOURCE[,FILTER]... */
export interface Source {
  /** The whole text. */
  readonly text: string;
  /** The text without its filters. */
  readonly location: string;
  readonly place: Place;
  readonly filters: Filters;
  /** The filters and drive options of the text, in order; the value is undefined for a flag. */
  readonly words: readonly (readonly [name: string, value: string | undefined])[];
  readonly bus: DriveBus | undefined;
  readonly serial: string | undefined;
  readonly model: string | undefined;
  readonly kind: DriveKind;
}

/** The prefixes of a path that give the format of its bytes. */
const formatPrefixes: readonly SourceFormat[] = ['raw', ...imageFormats];

/** Options of a drive that are no filters. */
interface DriveWords {
  readonly bus?: string | undefined;
  readonly serial?: string;
  readonly model?: string;
  readonly kind?: DriveKind;
}

/**
 * Parses a source. Splits options from the end of the text; a comma elsewhere is part of the
 * source.
 * @throws FarbusError if the text is invalid
 */
export function parseSource(text: string): Source {
  let location = text;
  let filters: Filters = {};
  let drive: DriveWords = {};
  const words: [string, string | undefined][] = [];
  const said = new Set<string>();
  for (;;) {
    const match = /^(.*),([a-z-]+)(?:=([^,]*))?$/s.exec(location);
    if (!match) break;
    const [, before, word, value] = match as unknown as [string, string, string, string | undefined];
    const more = driveWord(word, value, text);
    const filter = more ? undefined : filterInText(word, value, text);
    if (!more && !filter) break;
    drive = { ...drive, ...more };
    if (filter) filters = joined(filters, filter);
    const name = more?.kind ? 'cdrom or removable' : word;
    // Two values: it is unclear which one is meant.
    if (said.has(name) && !isListFilter(name)) throw usageError(`${text}: ${name} is given twice: give it once`);
    said.add(name);
    words.unshift([word, value]);
    location = before;
  }
  const { bus, kind = 'disk', serial, model } = drive;
  if (location === '' && kind === 'disk') throw usageError(`${JSON.stringify(text)} names no source`);
  if (bus !== undefined && bus !== 'nvme' && bus !== 'ahci' && bus !== 'ide') {
    throw usageError(`${text}: bus= is nvme, ahci or ide`);
  }
  if (kind !== 'disk' && bus !== undefined && bus !== 'ahci') {
    throw usageError(`${text}: a ${kind} drive is on the bus ahci`);
  }
  // An optical disc is never written.
  if (kind === 'cdrom' && filters.overlay === undefined) filters = { ...filters, 'read-only': true };
  return { text, location, place: placeOf(location), filters: checked(filters), words, bus, serial, model, kind };
}

/**
 * Parses a source of a configuration file, whose author may be another user.
 * @throws FarbusError if the text is invalid, or could make this computer run commands
 */
export function parseForeignSource(text: string): Source {
  const source = parseSource(text);
  if (source.place.kind === 'other') source.place.source.checkForeign?.(source.location);
  return source;
}

/** Parses one word about a drive; undefined if it is none. */
function driveWord(word: string, value: string | undefined, text: string): DriveWords | undefined {
  if ((word === 'cdrom' || word === 'removable') && value === undefined) return { kind: word };
  if (word === 'bus' && value !== undefined) return { bus: value };
  if (word === 'serial') return { serial: shownText(value, 20, text) };
  if (word === 'model') return { model: shownText(value, 40, text) };
  return undefined;
}

/** Checks a serial number or model: printable ASCII, as the ATA and NVMe specifications require. */
function shownText(value: string | undefined, max: number, text: string): string {
  if (value === undefined || !/^[!-~]([ -~]*[!-~])?$/.test(value) || value.length > max) {
    throw usageError(`${text}: a serial number has 1 to 20 printable characters, a model 1 to 40`);
  }
  return value;
}

function placeOf(location: string): Place {
  if (location === '') return { kind: 'none' };
  const source = sourceKinds.find(({ prefix }) => location.startsWith(prefix));
  if (source) return { kind: 'other', source };
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(location)?.[1];
  if (scheme !== undefined) {
    const hint = sourceHint(location);
    const error = `${location}: no such kind of source: ${scheme}; see farbus help sources`;
    throw usageError(hint === undefined ? error : `${error}; ${hint}`);
  }
  const format = formatPrefixes.find((one) => location.startsWith(`${one}:`));
  return { kind: 'local', path: format === undefined ? location : location.slice(format.length + 1), format };
}

/** The path of a local source, without a format prefix; undefined for all others. */
export function localPath({ place }: Source): string | undefined {
  return place.kind === 'local' ? place.path : undefined;
}

/**
 * The path of a source that is raw bytes of a local file or device, by its prefix and name;
 * undefined for all others. Its acknowledged writes survive the end of this process.
 */
export function plainPath({ place }: Source): string | undefined {
  if (place.kind !== 'local') return undefined;
  const isRaw = place.format === undefined ? formatsOfName(place.path).length === 0 : place.format === 'raw';
  return isRaw ? place.path : undefined;
}

/** A disk image file and its format. */
export interface ImagePath {
  readonly path: string;
  readonly format: ImageFormat;
}

/**
 * The path and format of a source that is an image by its prefix or name; undefined for all others.
 */
export function imagePath({ place }: Source): ImagePath | undefined {
  if (place.kind !== 'local' || place.format === 'raw') return undefined;
  const format = place.format ?? formatsOfName(place.path)[0];
  return format && { path: place.path, format };
}

/**
 * The text of a source with absolute paths of this computer's files, for a process with another
 * working directory.
 * @param folder Where relative paths start. Default: the working directory.
 */
export function absoluteText(text: string, folder = process.cwd()): string {
  const { location, place, words } = parseSource(text);
  const prefix = place.kind === 'local' && place.format !== undefined ? `${place.format}:` : '';
  const files = place.kind === 'other' ? place.source.fileParameters : undefined;
  const start =
    place.kind === 'local'
      ? prefix + resolve(folder, place.path)
      : files
        ? withAbsoluteFiles(location, files, (path) => resolve(folder, path))
        : location;
  return words.reduce((all, [name, value]) => {
    if (value === undefined) return `${all},${name}`;
    return `${all},${name}=${isFileFilter(name) ? resolve(folder, value) : value}`;
  }, start);
}
