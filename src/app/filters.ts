/**
 * The filters between a source and its users: their options on the command line and in a drive's
 * text, and the order in which they are applied.
 */
import type { ParseArgsConfig } from 'node:util';
import { usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';
import type { BlockDevice } from '../block/device.js';
import { RateFilter, RateLimit } from '../block/filters/rate.js';
import { ReadAheadFilter } from '../block/filters/readahead.js';
import { SliceFilter } from '../block/filters/slice.js';
import type { DiskIdentity } from '../block/identity.js';
import { identifyDisk } from '../probe/disk-identity.js';
import { openPartition } from '../probe/probe.js';
import { imageFormats, type ImageFormat } from '../protocol/qemu/formats.js';
import { openCacheFile } from '../storage/cache-file.node.js';
import { openOverlayFile } from '../storage/overlay-file.node.js';

/** How the bytes of a source are read: raw, or as an image format. */
export type SourceFormat = 'raw' | ImageFormat;

/** The filters of a source. An absent field means that the filter is not used. */
export interface Filters {
  readonly format?: SourceFormat | undefined;
  /** Further files that an image may use, and folders whose files it may use. */
  readonly mayOpen?: readonly string[] | undefined;
  /** Path of the cache file. */
  readonly cache?: string | undefined;
  /** Maximum bytes of content in the cache. */
  readonly cacheSize?: number | undefined;
  readonly cacheKeep?: boolean | undefined;
  /**
   * The user asserts that the source is the disk that an overlay, a kept cache or a connection had
   * before.
   */
  readonly assumeSame?: boolean | undefined;
  readonly readahead?: boolean | undefined;
  /** Path of the overlay file. */
  readonly overlay?: string | undefined;
  /** Start of the part to use, in bytes. */
  readonly offset?: number | undefined;
  readonly size?: number | undefined;
  readonly partition?: number | undefined;
  readonly readOnly?: boolean | undefined;
  /** Limit for each direction, in bytes a second. */
  readonly rate?: number | undefined;
}

type Value = string | boolean | readonly string[] | undefined;

/** The option of a filter: its key, and how its value is parsed. */
interface FilterOption {
  readonly key: keyof Filters;
  /** The option takes no value. */
  readonly flag?: boolean;
  /** The option may be repeated; its values form a list. */
  readonly list?: boolean;
  readonly parse: (text: string, name: string) => Filters[keyof Filters];
}

const text = (value: string, name: string): string => {
  if (value === '') throw usageError(`${name} needs a file`);
  return value;
};
const bytes =
  (least: number) =>
  (value: string, name: string): number => {
    const parsed = parseBytes(value);
    if (parsed === undefined || parsed < least) {
      throw usageError(`${name} ${value}: expected a number of bytes of at least ${least}, for example 64M`);
    }
    return parsed;
  };

function formatOption(value: string, name: string): SourceFormat {
  const known = ['raw', ...imageFormats] as const;
  const found = known.find((one) => one === value);
  if (!found) throw usageError(`${name} ${value}: expected one of ${known.join(', ')}`);
  return found;
}

function partitionOption(value: string, name: string): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < 1 || number > 65535) {
    throw usageError(`${name} ${value}: expected a partition's number; see farbus info`);
  }
  return number;
}

function rateOption(value: string, name: string): number {
  return bytes(512)(value.replace(/\/s$/, ''), name);
}

/** Options by word. */
const options: Readonly<Record<string, FilterOption>> = {
  format: { key: 'format', parse: formatOption },
  'may-open': { key: 'mayOpen', list: true, parse: (value, name) => [text(value, name)] },
  cache: { key: 'cache', parse: text },
  'cache-size': { key: 'cacheSize', parse: bytes(65_536) },
  'cache-keep': { key: 'cacheKeep', flag: true, parse: () => true },
  'assume-same': { key: 'assumeSame', flag: true, parse: () => true },
  readahead: { key: 'readahead', flag: true, parse: () => true },
  overlay: { key: 'overlay', parse: text },
  offset: { key: 'offset', parse: bytes(0) },
  size: { key: 'size', parse: bytes(1) },
  partition: { key: 'partition', parse: partitionOption },
  'read-only': { key: 'readOnly', flag: true, parse: () => true },
  rate: { key: 'rate', parse: rateOption },
};

/** Words of all filters. */
export const filterNames: readonly string[] = Object.keys(options);

/** Filters by word; true if the filter takes no value. */
export const filterFlags: Readonly<Record<string, boolean>> = Object.fromEntries(
  Object.entries(options).map(([name, { flag = false }]) => [name, flag]),
);

/** True if a filter may be repeated; its values form a list. */
export function isListFilter(name: string): boolean {
  return Object.hasOwn(options, name) && options[name]!.list === true;
}

/** A filter by its word, which must be one of {@link filterNames}. `parse` parses its value. */
export function filterOf(name: string): { flag: boolean; list: boolean; parse: (value: string) => Filters } {
  const { key, flag = false, list = false, parse } = options[name]!;
  return { flag, list, parse: (value) => ({ [key]: parse(value, name) }) };
}

/** Merges two sets of filters. `first` takes precedence; lists are joined. */
export function joined(first: Filters, second: Filters): Filters {
  const lists = [first.mayOpen, second.mayOpen].filter((list) => list !== undefined);
  return { ...second, ...first, ...(lists.length > 0 && { mayOpen: lists.flat() }) };
}

/** The filter options for `parseOptions`: all, or those in `only`. */
export function filterConfig(only = Object.keys(options)): NonNullable<ParseArgsConfig['options']> {
  return Object.fromEntries(
    only.map((name) => {
      const { flag, list = false } = options[name]!;
      return [name, { type: flag ? 'boolean' : 'string', multiple: list }];
    }),
  );
}

/**
 * The filters that the options of a command specify.
 * @throws FarbusError for an invalid value
 */
export function filtersOf(values: Readonly<Record<string, unknown>>): Filters {
  let found: Filters = {};
  for (const [name, { key, parse }] of Object.entries(options)) {
    const value = values[name] as Value;
    if (value === undefined || value === false) continue;
    for (const one of Array.isArray(value) ? (value as string[]) : [value === true ? '' : (value as string)]) {
      found = joined(found, { [key]: parse(one, `--${name}`) });
    }
  }
  return checked(found);
}

/**
 * Parses one filter in a drive's text, `name` or `name=value`. Returns undefined if it is no
 * filter.
 */
export function filterInText(name: string, value: string | undefined, whole: string): Filters | undefined {
  const option = Object.hasOwn(options, name) ? options[name] : undefined;
  if (!option || (option.flag === true) !== (value === undefined)) return undefined;
  return { [option.key]: option.parse(value ?? '', `${whole}: ${name}=`) };
}

/** Returns the filters; throws if two of them exclude each other. */
export function checked(filters: Filters): Filters {
  const { readOnly, overlay, cache, cacheSize, cacheKeep } = filters;
  if (readOnly && overlay !== undefined) {
    throw usageError('read-only and overlay exclude each other: an overlay is for writing');
  }
  if (cache === undefined && (cacheSize !== undefined || cacheKeep)) {
    throw usageError('cache-size and cache-keep are about a cache: give cache as well');
  }
  return filters;
}

/** Help text for commands that accept all filters. */
export const filterHelp = `Between the source and its users, in this order; in a SOURCE's text as ,NAME or ,NAME=VALUE:
  --format FORMAT      what the source's bytes are: raw, ${imageFormats.slice(0, -1).join(', ')} or
                       ${imageFormats.at(-1)!}; where nothing is said, a file's name decides (images need qemu-nbd)
  --may-open FILE      another file that an image may take content from: its backing file, data file or extent; or a
                       folder, whose files it may; can be given several times
  --cache FILE         keep what was read in FILE, a file of this computer, for sources that are far; nobody else may
                       write the source meanwhile
  --cache-size SIZE    bytes that FILE holds at most (default 1G)
  --cache-keep         use again what FILE held when it was closed: nobody else has written the source since
  --readahead          read ahead of whoever goes forward through the disk: for sources that are far; by ssh and rsh that is
                       done anyway
  --overlay FILE       what is written goes to FILE, and the source stays as it is; FILE is made where there is none
  --assume-same        take the source for the disk that the overlay, the kept cache or the lost connection had,
                       where nothing tells
  --offset BYTES       begin there
  --size BYTES         so many bytes of it
  --partition N        only partition N (see farbus info)
  --read-only          nothing can be written
  --rate BYTES/s       so much a second at most, reads and writes each, in equal shares for all who use it`;

/**
 * Opens a source with its filters.
 * @param open Opens the source itself; read-only if it is never written.
 * @param limit Apply the rate too. A server passes false and applies it to each connection.
 */
export async function openFiltered(
  open: (readOnly: boolean) => Promise<BlockDevice>,
  filters: Filters,
  limit = true,
): Promise<BlockDevice> {
  const { cache, cacheSize, cacheKeep, assumeSame, readahead, overlay, offset, size, partition, readOnly, rate } =
    filters;
  let device = await open(readOnly === true || overlay !== undefined);
  // Far sources already read ahead. Two read-ahead filters would each read ahead of the other.
  const ahead = device instanceof ReadAheadFilter;
  try {
    if (cache !== undefined) {
      const source = device;
      const identify = (): Promise<DiskIdentity> => identifyDisk(source);
      device = await openCacheFile(source, cache, { cacheSize, keep: cacheKeep, identify, assumeSame });
    }
    if (readahead && !ahead) device = new ReadAheadFilter(device);
    if (overlay !== undefined) {
      device = await openOverlayFile(device, overlay, { identity: await identifyDisk(device), assumeSame });
    }
    if (offset !== undefined || size !== undefined) {
      const start = offset ?? 0;
      const all = device.info.size;
      if (start >= all) throw usageError(`offset ${start} leaves nothing: the device has ${all} bytes`);
      device = new SliceFilter(device, start, size ?? all - start, size === undefined);
    }
    if (partition !== undefined) device = await openPartition(device, partition);
    if (rate !== undefined && limit) device = new RateFilter(device, new RateLimit(rate));
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}
