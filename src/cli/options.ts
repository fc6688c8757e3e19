/**
 * Parses the arguments of a command by its table, with node:util's parser and errors that say what
 * to do.
 */
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { messageOf, usageError } from '../base/errors.js';
import { parseBytes } from '../base/format.js';
import { visible } from '../base/printable.js';
import { similar } from '../base/similar.js';
import type { Given, Option, Options, Values } from './table.js';

/** The parts of a command's table that parsing needs. */
interface Syntax<O extends Options> {
  readonly name: string;
  readonly options: O;
  readonly operands?: unknown;
  readonly runs?: 'after-dashes' | 'after-operand' | undefined;
}

/**
 * Parses `args`.
 * @throws FarbusError with exit status 2 for anything that the table does not define
 */
export function parseOptions<const O extends Options>(table: Syntax<O>, args: readonly string[]): Given<O> {
  const { name, options } = table;
  const { own, command } = splitCommand(table, args);
  if (command?.length === 0) throw usageError('there is no COMMAND after --: give one, or leave -- out');
  const joined = joinValues(name, own, options);
  checkKnown(name, joined, options);
  let parsed;
  try {
    parsed = parseArgs({
      args: joined,
      options: configOf(options),
      allowPositionals: table.operands !== undefined,
      strict: true,
      tokens: true,
    });
  } catch (error) {
    const message = messageOf(error).replace(/^(.*?)\. .*$/, '$1');
    throw usageError(`${message}; see farbus ${name} --help`);
  }
  checkOnce(parsed.tokens, options);
  checkChoices(parsed.values, options);
  const given = new Set(parsed.tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : [])));
  return { values: parsed.values as Values<O>, operands: parsed.positionals, command, args, given };
}

/** Refuses an option that the table does not define, and guesses the one that was meant. */
function checkKnown(command: string, args: readonly string[], options: Options): void {
  const { tokens } = parseArgs({ args: [...args], options: configOf(options), strict: false, tokens: true });
  const unknown = tokens.find((token) => token.kind === 'option' && !Object.hasOwn(options, token.name));
  if (unknown?.kind !== 'option') return;
  const { name, rawName } = unknown;
  const meant = similar(name, [...Object.keys(options), 'help']);
  const guess = meant === undefined ? '' : `: did you mean --${meant}?`;
  throw usageError(`there is no option ${visible(rawName)}${guess || ';'} see farbus ${command} --help`);
}

/** The options for node:util's parser. */
function configOf(options: Options): NonNullable<ParseArgsConfig['options']> {
  return Object.fromEntries(
    Object.entries(options).map(([name, option]) => {
      const { short, multiple = false } = option;
      const type = option.value === undefined ? ('boolean' as const) : ('string' as const);
      const empty = multiple ? [] : type === 'boolean' ? false : option.default;
      return [name, { type, multiple, ...(short && { short }), ...(empty !== undefined && { default: empty }) }];
    }),
  );
}

/** Splits the arguments into the command's own and those of the command that it runs. */
export function splitCommand(
  { runs, options }: Pick<Syntax<Options>, 'runs' | 'options'>,
  args: readonly string[],
): { own: readonly string[]; command: readonly string[] | undefined } {
  if (runs === 'after-operand') {
    const from = firstOperand(args, options) + 1;
    if (from >= args.length) return { own: args, command: undefined };
    const command = args.slice(from);
    return { own: args.slice(0, from), command: command[0] === '--' ? command.slice(1) : command };
  }
  const at = args.indexOf('--');
  if (at < 0 || runs === undefined) return { own: args, command: undefined };
  return { own: args.slice(0, at), command: args.slice(at + 1) };
}

/** The index of the first argument that is neither an option nor its value. */
function firstOperand(args: readonly string[], options: Options): number {
  for (let at = 0; at < args.length; at++) {
    const arg = args[at]!;
    if (!arg.startsWith('-')) return at;
    const named = Object.entries(options).find(([name, { short }]) => arg === `--${name}` || arg === `-${short ?? ''}`);
    if (named?.[1].value !== undefined && named[1].alone === undefined) at++;
  }
  return args.length;
}

interface OptionToken {
  readonly kind: string;
  readonly name?: string;
  readonly value?: unknown;
}

/** Refuses a repeated option: it is unclear which value is meant. */
function checkOnce(tokens: readonly OptionToken[], options: Options): void {
  const seen = new Set<string>();
  for (const { kind, name, value } of tokens) {
    if (kind !== 'option' || name === undefined || value === undefined || options[name]?.multiple) continue;
    if (seen.has(name)) throw usageError(`--${name} is given twice: give it once`);
    seen.add(name);
  }
}

/** Refuses values that are not among an option's choices. */
function checkChoices(values: Readonly<Record<string, unknown>>, options: Options): void {
  for (const [name, { choices }] of Object.entries(options)) {
    const value = values[name];
    if (choices === undefined || typeof value !== 'string' || choices.includes(value)) continue;
    throw usageError(`--${name} ${value}: expected ${choices.join(' or ')}`);
  }
}

/**
 * Joins each option with its value as `--name=value`. `parseArgs` would refuse a value that begins
 * with a dash. Here only a value that is itself an option of the command is refused, because then
 * the real value is missing.
 */
function joinValues(command: string, args: readonly string[], options: Options): string[] {
  const joined: string[] = [];
  const shorts = new Map(Object.entries(options).flatMap(([name, { short }]) => (short ? [[`-${short}`, name]] : [])));
  const nameOf = (arg: string): string | undefined =>
    shorts.get(arg) ?? (arg.startsWith('--') && Object.hasOwn(options, arg.slice(2)) ? arg.slice(2) : undefined);
  for (let at = 0; at < args.length; at++) {
    const arg = args[at]!;
    if (arg === '--') return [...joined, ...args.slice(at)];
    const name = nameOf(arg);
    const option: Option | undefined = name === undefined ? undefined : options[name];
    if (option?.value === undefined || option.alone !== undefined) {
      joined.push(option?.alone === undefined ? arg : `--${name!}=${option.alone}`);
      continue;
    }
    const value = args[++at];
    if (value === undefined || value === '--' || nameOf(value.replace(/=.*$/s, '')) !== undefined) {
      const behind = value === undefined ? 'nothing' : value;
      throw usageError(
        `--${name!} needs a value, and ${behind} follows it: write --${name!}=VALUE; see farbus ${command} --help`,
      );
    }
    joined.push(`--${name!}=${value}`);
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

/** Refuses operands of a command that takes none. */
export function noOperands(command: string, operands: readonly string[]): void {
  if (operands.length > 0) throw usageError(`farbus ${command} takes no ${operands[0]!}; see farbus ${command} --help`);
}
