/**
 * How a filter describes itself to users: its options, their help, and how it is opened. Each
 * filter defines these in its own file; app/filters.ts lists the filters in the order in which they
 * are applied.
 */
import { usageError } from '../../base/errors.js';
import { parseBytes } from '../../base/format.js';
import type { BlockDevice } from '../device.js';
import type { DiskIdentity } from '../identity.js';

/** An option of a filter: `--NAME VALUE` of a command, `,NAME=VALUE` after a source. */
export interface FilterOption<T = unknown> {
  /** The value's name in help, such as FILE. Absent: the option is a flag and takes none. */
  readonly value?: string;
  readonly default?: string;
  /** The only values, for completion. */
  readonly choices?: readonly string[];
  /** The option may be repeated; `parse` returns a list, and the lists are joined. */
  readonly list?: true;
  /** The value names a file that one source can use, so it cannot be given for several. */
  readonly oneSource?: true;
  /** Description, for help. */
  readonly about: string;
  /**
   * Parses the value; '' for a flag.
   * @param name the option as the user wrote it, for errors
   * @throws FarbusError if the value is invalid
   */
  readonly parse: (text: string, name: string) => T;
}

export type FilterOptions = Readonly<Record<string, FilterOption>>;

/** Parsed values of options. An absent value means that the option was not given. */
export type FilterValues<O extends FilterOptions> = {
  readonly [K in keyof O]?: O[K] extends FilterOption<infer T> ? T | undefined : never;
};

/** The context in which a filter is opened. */
export interface FilterContext {
  /** The source itself, beneath all filters. */
  readonly source: BlockDevice;
  /** The user asserts that the source is the disk that was there before, if nothing proves it. */
  readonly assumeSame: boolean;
  /** Nothing is written to the device, and no file of a filter is made or changed. */
  readonly dryRun: boolean;
  /** Nothing is written to the device. Files that only speed up reading may change. */
  readonly readsOnly: boolean;
  /** Ends the opening. */
  readonly signal: AbortSignal | undefined;
  /** Reads the marks by which a disk is recognised. */
  readonly identify: (device: BlockDevice) => Promise<DiskIdentity>;
}

export interface FilterDefinition<O extends FilterOptions> {
  readonly options: O;
  /**
   * Checks values together.
   * @param all the values of all filters
   * @throws FarbusError if they exclude each other
   */
  readonly check?: (values: FilterValues<O>, all: Readonly<Record<string, unknown>>) => void;
  /** True if the source is never written, so that it is opened read-only. */
  readonly sparesSource?: (values: FilterValues<O>) => boolean;
  /** Acknowledged writes that are not flushed are lost with the process if an option is given. */
  readonly holdsWrites?: true;
  /** A server applies it to each connection instead of to the device. */
  readonly perConnection?: true;
  /**
   * Opens the filter on `device`, which it takes over. Returns `device` if no option of it is
   * given. If it rejects, the caller closes `device`. Absent if only opening the source uses the
   * options.
   */
  readonly open?: (
    device: BlockDevice,
    values: FilterValues<O>,
    context: FilterContext,
  ) => BlockDevice | Promise<BlockDevice>;
}

/** Returns the definition; it only infers the types of its options. */
export function defineFilter<const O extends FilterOptions>(definition: FilterDefinition<O>): FilterDefinition<O> {
  return definition;
}

/** Parses the name of a file. */
export function parseFile(text: string, name: string): string {
  if (text === '') throw usageError(`${name} needs a file`);
  return text;
}

/** Returns a parser of a number of bytes that is at least `least`. */
export function bytesFrom(least: number): (text: string, name: string) => number {
  return (text, name) => {
    const parsed = parseBytes(text);
    if (parsed === undefined || parsed < least) {
      throw usageError(`${name} ${text}: expected a number of bytes of at least ${least}, for example 64M`);
    }
    return parsed;
  };
}

/** Parses a flag, which has no value. */
export function parseFlag(): true {
  return true;
}
