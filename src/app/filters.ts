/**
 * The filters between a source and its users, in the order in which they are applied. Each defines
 * its options, their help and its opening in its own file. The parser of sources, the options of
 * commands, files of settings and the help are made from this list.
 */
import { usageError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { assumeSameOption } from '../block/filters/assume-same.js';
import type { FilterDefinition, FilterOption, FilterOptions } from '../block/filters/definition.js';
import { rateFilter } from '../block/filters/rate.js';
import { readAheadFilter } from '../block/filters/readahead.js';
import { readOnlyOption } from '../block/filters/read-only.js';
import { sliceFilter } from '../block/filters/slice.js';
import type { DiskIdentity } from '../block/identity.js';
import { identifyDisk } from '../probe/disk-identity.js';
import { partitionFilter } from '../probe/partition.js';
import { imageOptions } from '../protocol/qemu/options.js';
import { cacheFilter } from '../storage/cache-file.node.js';
import { overlayFilter } from '../storage/overlay-file.node.js';

/** A new filter is one more line. */
const filters = [
  imageOptions,
  cacheFilter,
  assumeSameOption,
  readAheadFilter,
  overlayFilter,
  sliceFilter,
  partitionFilter,
  readOnlyOption,
  rateFilter,
] as const;

type OptionsOf<D> = D extends FilterDefinition<infer O> ? O : never;
type AllOptions = OptionsOf<(typeof filters)[number]>;
type Both<U> = (U extends unknown ? (one: U) => void : never) extends (both: infer I) => void ? I : never;
type ByName = Both<AllOptions>;

/** The values of the filters' options. An absent value means that the option is not given. */
export type Filters = {
  readonly [K in keyof ByName]?: ByName[K] extends FilterOption<infer T> ? T | undefined : never;
};

const definitions = filters as unknown as readonly FilterDefinition<FilterOptions>[];

/** The options of all filters by name, in the order in which the filters are applied. */
export const filterOptions: FilterOptions = Object.fromEntries(
  definitions.flatMap(({ options }) => Object.entries(options)),
);

/** Names of the options of all filters. */
export const filterNames = Object.keys(filterOptions) as (keyof Filters)[];

function optionOf(name: string): FilterOption | undefined {
  return Object.hasOwn(filterOptions, name) ? filterOptions[name] : undefined;
}

/** True if a filter's option may be repeated; its values form a list. */
export function isListFilter(name: string): boolean {
  return optionOf(name)?.list === true;
}

/** True if the value of a filter's option is a path of this computer. */
export function isFileFilter(name: string): boolean {
  return optionOf(name)?.value === 'FILE';
}

/**
 * Parses the value of a filter's option; it is '' for a flag.
 * @param shown the option as the user wrote it, for errors
 */
export function parseFilter(name: keyof Filters, text: string, shown: string): Filters {
  return { [name]: filterOptions[name]!.parse(text, shown) };
}

/** Merges two sets of filters. `first` takes precedence; lists are joined. */
export function joined(first: Filters, second: Filters): Filters {
  const all: Record<string, unknown> = { ...second, ...first };
  for (const name of filterNames) {
    const [one, other] = [first[name], second[name]];
    if (Array.isArray(one) && Array.isArray(other)) all[name] = [...(one as unknown[]), ...(other as unknown[])];
  }
  return all;
}

/**
 * The filters that the options of a command specify.
 * @throws FarbusError for an invalid value
 */
export function filtersOf(values: Readonly<Record<string, unknown>>): Filters {
  let found: Filters = {};
  for (const name of filterNames) {
    const value = values[name] as string | boolean | readonly string[] | undefined;
    if (value === undefined || value === false) continue;
    const texts = typeof value === 'object' ? value : [value === true ? '' : value];
    for (const text of texts) found = joined(found, parseFilter(name, text, `--${name}`));
  }
  return checked(found);
}

/**
 * Parses one filter in a source's text, `name` or `name=value`. Returns undefined if it is no
 * filter.
 */
export function filterInText(name: string, value: string | undefined, whole: string): Filters | undefined {
  const option = optionOf(name);
  if (!option || (option.value === undefined) !== (value === undefined)) return undefined;
  return parseFilter(name as keyof Filters, value ?? '', `${whole}: ${name}=`);
}

/** Returns the filters; throws if two of them exclude each other. */
export function checked(values: Filters): Filters {
  for (const { check } of definitions) check?.(values, values);
  return values;
}

/** True if acknowledged writes that are not flushed are lost with this process. */
export function holdWrites(values: Filters): boolean {
  return definitions.some(({ holdsWrites, options }) => {
    return holdsWrites === true && Object.keys(options).some((name) => values[name as keyof Filters] !== undefined);
  });
}

/** Options of {@link openFiltered}. */
export interface FilterOpening {
  /** Ends the opening: it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Apply the filters that a server applies to each connection. Default true. */
  readonly limit?: boolean;
  /** Make and change no file. Default false. */
  readonly dryRun?: boolean;
  /** The caller only reads. Default false. */
  readonly readOnly?: boolean;
}

/**
 * Opens a source with its filters.
 * @param open Opens the source itself; read-only if it is never written.
 */
export async function openFiltered(
  open: (readOnly: boolean) => Promise<BlockDevice>,
  values: Filters,
  { limit = true, signal, dryRun = false, readOnly = false }: FilterOpening = {},
): Promise<BlockDevice> {
  const source = await open(definitions.some(({ sparesSource }) => sparesSource?.(values) === true));
  const identify = (one: BlockDevice): Promise<DiskIdentity> => identifyDisk(one, { signal });
  const assumeSame = values['assume-same'] === true;
  const context = { source, assumeSame, dryRun, readsOnly: dryRun || readOnly, signal, identify };
  let device = source;
  try {
    for (const filter of definitions) {
      if (filter.open && (limit || !filter.perConnection)) device = await filter.open(device, values, context);
    }
    signal?.throwIfAborted();
    if (source.writerLock?.takeOver && !device.writerLock?.takeOver) {
      throw usageError('a disk that is shared with other gateways (standby=1) takes no filter: leave the filters out');
    }
    return device;
  } catch (error) {
    await device.close();
    throw signal?.aborted ? signal.reason : error;
  }
}
