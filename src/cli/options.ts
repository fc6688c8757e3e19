/** Options of a command: node:util's parser, with errors that say what to do. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

type Parsed<T extends ParseArgsConfig> = ReturnType<typeof parseArgs<T>>;
import { FarbusError, messageOf, usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';

/**
 * Parses `args`. @throws FarbusError with exit status 2 for anything that `config` does not name; `command` is named in it.
 */
export function parseOptions<T extends ParseArgsConfig>(
  command: string,
  args: readonly string[],
  config: T,
): Parsed<T> {
  try {
    return parseArgs<T>({ ...config, args: [...args], strict: true });
  } catch (error) {
    const message = messageOf(error).replace(/^(.*?)\. .*$/, '$1');
    throw usageError(`${message}; see farbus ${command} --help`);
  }
}

/** A whole number within [min, max], as an option's value. */
export function numberOption(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw usageError(`--${name} ${text}: expected a whole number from ${min} to ${max}`);
  }
  return value;
}

/** A size in bytes ("128M"), as an option's value. */
export function sizeOption(name: string, text: string, min: number, max: number): number {
  const value = parseBytes(text);
  if (value === undefined || value < min || value > max) {
    throw usageError(`--${name} ${text}: expected a size from ${shortSize(min)} to ${shortSize(max)}`);
  }
  return value;
}

/** As it can be given: in the largest unit that leaves a whole number. */
function shortSize(bytes: number): string {
  const units = ['', 'K', 'M', 'G', 'T'];
  let [value, unit] = [bytes, 0];
  while (value > 0 && value % 1024 === 0 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${value}${units[unit]!}`;
}

/** A failure in one line, prefixed by what was being done. Keeps the exit status of a FarbusError. */
export function failed(what: string, error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  return new FarbusError(`${what}: ${messageOf(error)}`, { cause: error });
}
