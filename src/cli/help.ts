/**
 * Makes help texts from the tables of commands (table.ts), in lines of at most 80 columns: the
 * short one of -h, which fits a screen of 24 lines, and the complete one of --help.
 */
import type { Command, Option, Options, Topic } from './table.js';
import { commonStatuses } from './exit-status.js';
import { topics, type TopicPart } from './topics.js';
import { definitions, helpWidth, wrapCommand, wrapLines, wrapText, wrapWords, type Definition } from './ui/wrap.js';

/** Column of the further lines of usage: the width of "Usage: farbus ". */
const usageColumn = 14;
/** Columns of the forms of a value and of their descriptions. */
const formColumn = 25;
const formAboutColumn = 29;

/** The option as help and docs show it: `--listen URI`, `--trace[=FILE]`, `-n N`. */
export function optionTerm(name: string, { value, alone, short }: Option): string {
  const long = value === undefined ? `--${name}` : alone === undefined ? `--${name} ${value}` : `--${name}[=${value}]`;
  return short === undefined ? long : `${long}, -${short}${value === undefined ? '' : ` ${value}`}`;
}

export function optionAbout({ about, default: usual }: Option): string {
  return usual === undefined ? about : `${about} (default ${usual})`;
}

/** The complete help of a command. */
export function commandHelp(command: Command): string {
  const { name, summary, usage, about, notes, examples, options, statuses = [], topics: named = [] } = command;
  const explained = named.map((topic) => `farbus help ${topic} explains ${topics[topic].word}.`);
  return [
    `farbus ${name}: ${summary}`,
    usageSection(name, usage),
    wrapText(about),
    ...(explained.length > 0 ? [wrapText(explained.join(' '))] : []),
    ...optionSections(options),
    ...(notes === undefined ? [] : [wrapText(notes)]),
    statusSection(statuses),
    `${examplesSection(examples)}\n`,
  ].join('\n\n');
}

/** Most examples in the short help. */
const shortExamples = 2;

/** The short help of a command. */
export function shortHelp(command: Command): string {
  const { name, summary, usage, examples, options, often = Object.keys(options) } = command;
  const shown = often.map((option): Definition => [optionTerm(option, options[option]!), briefOf(options[option]!)]);
  const rows = definitions([...shown, ['--help', shown.length < Object.keys(options).length ? 'all options' : 'more']]);
  return [
    `farbus ${name}: ${summary}`,
    usageSection(name, usage),
    `Options:\n${rows}`,
    `${examplesSection(examples.slice(0, shortExamples))}\n`,
  ].join('\n\n');
}

function briefOf({ brief, about, default: usual }: Option): string {
  return brief ?? (usual === undefined ? about : `${about} (default ${usual})`);
}

function usageSection(name: string, usage: readonly string[]): string {
  return usage
    .map((line, index) => wrapUsage(index === 0 ? 'Usage:' : '', `farbus ${name} ${line}`.trimEnd()))
    .join('\n');
}

/** Wraps a line of usage. A group in brackets stays together. */
function wrapUsage(label: string, line: string): string {
  const words = line.match(/\[[^\]]*(?:\[[^\]]*\][^\]]*)*\]\S*|\S+/g) ?? [];
  const [first, ...more] = wrapWords(words, helpWidth - usageColumn);
  return [`${label.padEnd(7)}${first!}`, ...more.map((one) => ' '.repeat(usageColumn) + one)].join('\n');
}

function optionSections(options: Options): string[] {
  const all = Object.entries(options);
  const own = all.filter(([, { group }]) => group === undefined);
  const filters = all.filter(([, { group }]) => group === 'filters');
  const sections: string[] = [];
  const rows = [
    ...own.map(([name, option]) => optionRow(name, option)),
    definitions([['--help', 'print this; -h prints a short help']]),
  ];
  sections.push(`Options:\n${rows.join('\n')}`);
  if (filters.length > 0) {
    const terms = filters.map(([name, option], at) => optionTerm(name, option) + (at < filters.length - 1 ? ',' : ''));
    const lines = wrapWords(terms, helpWidth - 2).map((line) => `  ${line}`);
    sections.push(`Filters of the source, in this order (farbus help filters explains them):\n${lines.join('\n')}`);
  }
  return sections;
}

function optionRow(name: string, option: Option): string {
  const row = definitions([[optionTerm(name, option), optionAbout(option)]]);
  if (option.forms === undefined) return row;
  const forms = option.forms.flatMap(([term, about]) => [
    ' '.repeat(formColumn) + term,
    ...wrapLines(about, helpWidth - formAboutColumn).map((line) => ' '.repeat(formAboutColumn) + line),
  ]);
  return [row, ...forms].join('\n');
}

function statusSection(own: readonly Definition[]): string {
  const common = 'Exit status: 0 done, 1 failed, 2 wrong use, 130 Ctrl-C; farbus --help lists all.';
  if (own.length === 0) return wrapText(common);
  return `${wrapText(common)}\n${definitions(own, 8)}`;
}

/** A page that explains a word which several commands use; undefined if there is none. */
export function topicHelp(name: string): string | undefined {
  if (!Object.hasOwn(topics, name)) return undefined;
  return `${topics[name as Topic].parts().map(topicPart).join('\n\n')}\n`;
}

function topicPart(part: TopicPart): string {
  if (typeof part === 'string') return wrapText(part);
  return 'terms' in part ? definitions(part.terms, part.column) : examplesSection(part.examples);
}

function examplesSection(examples: readonly string[]): string {
  return `Examples:\n${examples.map(wrapCommand).join('\n')}`;
}

/** The beginning of the help of `farbus` itself. */
function mainStart(commands: readonly Command[]): string {
  return `farbus: a device that is plugged into another computer, as if it were your own

Usage: farbus COMMAND [OPTIONS]

Commands:
${definitions(
  commands.map(({ name, summary }) => [name, summary]),
  17,
)}`;
}

/** The short help of `farbus` itself. */
export function shortMainHelp(commands: readonly Command[]): string {
  return `${mainStart(commands)}

farbus COMMAND -h explains a command in short, farbus COMMAND --help completely.

Examples:
  farbus demo
  farbus serve disk.img
`;
}

/** The complete help of `farbus` itself. */
export function mainHelp(commands: readonly Command[]): string {
  const pages = Object.entries(topics).map(([name, { summary }]): Definition => [`help ${name}`, summary]);
  return `${mainStart(commands)}

Help:
${definitions(
  [
    ['COMMAND -h', 'one command, in short'],
    ['COMMAND --help', 'one command, completely'],
    ...pages,
    ['--version, -V', 'the version of this farbus'],
  ],
  21,
)}

Exit status, of every command; some have others besides:
${definitions(commonStatuses, 8)}

Examples:
  farbus demo
  farbus serve disk.img
  farbus run --drive nbd://localhost/disk.img
`;
}
