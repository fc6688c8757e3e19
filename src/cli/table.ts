/**
 * The table that describes a command: its options, usage, description and examples. The parser
 * (options.ts), the help (help.ts), shell completion (completion.ts) and the check of the docs are
 * driven by it.
 */
import type { CliIo } from './ui/io.js';
import type { Definition } from './ui/wrap.js';

/**
 * The values that a shell offers: files, sources (files, and filters after a comma), the pages of
 * `farbus help`, or these words.
 */
export type Completes = 'file' | 'source' | 'page' | readonly string[];

/** An option of a command. */
export interface Option {
  /** The value's name in help, such as SECONDS. Absent: the option is a flag and takes none. */
  readonly value?: string;
  /** The value if the option is given without one; it is then written --NAME[=VALUE]. */
  readonly alone?: string;
  /** One letter. */
  readonly short?: string;
  /** It may be given several times. */
  readonly multiple?: true;
  readonly default?: string;
  /** The only values that are accepted. */
  readonly choices?: readonly string[];
  readonly completes?: Completes;
  /** Description, without its default. */
  readonly about: string;
  /** Description for the short help, with its default; at most one line. Absent: `about`. */
  readonly brief?: string;
  /** Forms of the value, each with its description. */
  readonly forms?: readonly Definition[];
  /** Help lists the options of a group together: filters by name only, as they have their page. */
  readonly group?: 'filters';
}

export type Options = Readonly<Record<string, Option>>;

/** The parsed value of an option. */
type Value<O extends Option> = O extends { value: string }
  ? O extends { multiple: true }
    ? readonly string[]
    : O extends { default: string }
      ? string
      : string | undefined
  : boolean;

/** Parsed values of options by their names. */
export type Values<O extends Options> = { readonly [K in keyof O]: Value<O[K]> };

/** A parsed command line. */
export interface Given<O extends Options> {
  readonly values: Values<O>;
  /** The words that are no options. */
  readonly operands: readonly string[];
  /** The words of the command that it `runs`; undefined if there are none. */
  readonly command: readonly string[] | undefined;
  /** The arguments as they were given, after the command's name. */
  readonly args: readonly string[];
  /** The names of the options that were given. */
  readonly given: ReadonlySet<string>;
}

/** Pages of `farbus help` that explain the words of a usage line. */
export type Topic = 'sources' | 'filters' | 'segments';

/** The parts of a command's table that do not depend on its options' types. */
interface Description {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  /** Lines of usage without "farbus NAME". */
  readonly usage: readonly string[];
  /** Paragraphs that say what it does. */
  readonly about: string;
  /** Paragraphs after the options. */
  readonly notes?: string;
  /** Complete command lines. */
  readonly examples: readonly string[];
  /** Further exit statuses, or other meanings of the common ones. */
  readonly statuses?: readonly Definition[];
  /** The options that the short help shows, in its order; at most ten. Absent: all. */
  readonly often?: readonly string[];
  readonly topics?: readonly Topic[];
  /** Pages of docs/ that describe it, the first above all. */
  readonly pages: readonly [string, ...string[]];
  /** Completes operands. Absent: the command takes none. */
  readonly operands?: Completes;
  /** It runs another command: the words after `--`, or after its first operand. */
  readonly runs?: 'after-dashes' | 'after-operand';
}

/** A command's table, as its file writes it. */
export interface CommandTable<O extends Options> extends Description {
  readonly options: O;
  /** Runs the command. Resolves with the exit status. */
  run(given: Given<O>, io: CliIo, program: Program): Promise<number>;
}

/** The program as a command sees it that tells about other commands. */
export interface Program {
  commands(): Promise<readonly Command[]>;
}

/** A command as the command line sees it. */
export interface Command extends Description {
  readonly options: Options;
  /** Parses the arguments after the command's name and runs it. Resolves with the exit status. */
  run(args: readonly string[], io: CliIo, program: Program): Promise<number>;
}
