/** Parses a command's options with node:util's parser, with errors that say what to do. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

type Parsed<T extends ParseArgsConfig> = ReturnType<typeof parseArgs<T>>;
import { FarbusError, messageOf, usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';

/**
 * Parses `args`.
 * @param command Name of the command, for errors.
 * @throws FarbusError with exit status 2 for anything that `config` does not define
 */
export function parseOptions<T extends ParseArgsConfig>(
  command: string,
  args: readonly string[],
  config: T,
): Parsed<T> {
  const joined = joinValues(command, args, config.options ?? {});
  let parsed: Parsed<T>;
  try {
    parsed = parseArgs<T>({ ...config, args: joined, strict: true, tokens: true });
  } catch (error) {
    const message = messageOf(error).replace(/^(.*?)\. .*$/, '$1');
    throw usageError(`${message}; see farbus ${command} --help`);
  }
  checkOnce((parsed as { readonly tokens?: readonly OptionToken[] }).tokens, config);
  return parsed;
}

interface OptionToken {
  readonly kind: string;
  readonly name?: string;
  readonly value?: unknown;
}

/** Refuses a repeated option: it is unclear which value is meant. */
function checkOnce(tokens: readonly OptionToken[] | undefined, { options = {} }: ParseArgsConfig): void {
  const seen = new Set<string>();
  for (const { kind, name, value } of tokens ?? []) {
    if (kind !== 'option' || name === undefined || value === undefined || options[name]?.multiple) continue;
    if (seen.has(name)) throw usageError(`--${name} is given twice: give it once`);
    seen.add(name);
  }
}

/**
 * Joins each option with its value as `--name=value`. `parseArgs` would refuse a value that begins
 * with a dash. Here only a value that is itself an option of the command is refused, because then
 * the real value is missing.
 */
function joinValues(
  command: string,
  args: readonly string[],
  options: NonNullable<ParseArgsConfig['options']>,
): string[] {
  const joined: string[] = [];
  const shorts = new Map(Object.entries(options).flatMap(([name, { short }]) => (short ? [[`-${short}`, name]] : [])));
  const nameOf = (arg: string): string | undefined =>
    shorts.get(arg) ?? (arg.startsWith('--') && Object.hasOwn(options, arg.slice(2)) ? arg.slice(2) : undefined);
  for (let at = 0; at < args.length; at++) {
    const arg = args[at]!;
    if (arg === '--') return [...joined, ...args.slice(at)];
    const name = nameOf(arg);
    if (name === undefined || options[name]!.type !== 'string') {
      joined.push(arg);
      continue;
    }
    const value = args[++at];
    if (value === undefined || value === '--' || nameOf(value.replace(/=.*$/s, '')) !== undefined) {
      const behind = value === undefined ? 'nothing' : value;
      throw usageError(
        `--${name} needs a value, and ${behind} follows it: write --${name}=VALUE; see farbus ${command} --help`,
      );
    }
    joined.push(`--${name}=${value}`);
  }
  return joined;
}

/** The value of an option: a whole number in [min, max]. */
export function numberOption(name: string, text: string, min: number, max: number): number {
  if (isNumber(text, min, max)) return Number(text);
  throw usageError(`--${name} ${text}: expected a whole number from ${min} to ${max}`);
}

/** The value of a limit option: a whole number in [1, max]; Infinity for `none`. */
export function limitOption(name: string, text: string, max: number): number {
  if (text === 'none') return Infinity;
  if (isNumber(text, 1, max)) return Number(text);
  throw usageError(`--${name} ${text}: expected a whole number from 1 to ${max}, or none`);
}

function isNumber(text: string, min: number, max: number): boolean {
  return /^\d+$/.test(text) && Number(text) >= min && Number(text) <= max;
}

/** The value of a size option ("128M"), in bytes. */
export function sizeOption(name: string, text: string, min: number, max: number): number {
  const value = parseBytes(text);
  if (value === undefined || value < min || value > max) {
    throw usageError(`--${name} ${text}: expected a size from ${shortSize(min)} to ${shortSize(max)}`);
  }
  return value;
}

/** The size in the largest unit that leaves a whole number. */
function shortSize(bytes: number): string {
  const units = ['', 'K', 'M', 'G', 'T'];
  let [value, unit] = [bytes, 0];
  while (value > 0 && value % 1024 === 0 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${value}${units[unit]!}`;
}

/** A one-line error that begins with the failed action. Keeps a FarbusError and its exit status. */
export function failed(what: string, error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  return new FarbusError(`${what}: ${messageOf(error)}`, { cause: error });
}
