/**
 * Makes manual pages from the tables of the commands, in the macros of man(7): farbus.1, a page
 * farbus-NAME.1 for each command, and farbus-NAME.7 for each page that explains a word.
 */
import { commonStatuses } from './exit-status.js';
import { optionAbout, optionTerm } from './help.js';
import type { Command, Option, Topic } from './table.js';
import { topics, type TopicPart } from './topics.js';
import type { Definition } from './ui/wrap.js';

/** The pages by their file names. */
export function manualPages(commands: readonly Command[], version: string): Map<string, string> {
  const pages = new Map<string, string>();
  const add = (name: string, section: number, summary: string, parts: readonly string[]): void => {
    const head = `.TH ${name.toUpperCase()} ${section} "" "farbus ${version}" "Farbus"`;
    const title = `.SH NAME\n${plain(name)} \\- ${plain(summary)}`;
    pages.set(`${name}.${section}`, `${[head, '.nh', '.ad l', title, ...parts].join('\n')}\n`);
  };
  add('farbus', 1, "use a device of another computer as one's own", mainParts(commands));
  for (const command of commands) add(`farbus-${command.name}`, 1, command.summary, commandParts(command));
  for (const [name, { summary, parts }] of Object.entries(topics)) {
    add(`farbus-${name}`, 7, summary, ['.SH DESCRIPTION', ...parts().map(topicPart), seeAlso(['farbus(1)'])]);
  }
  return pages;
}

function mainParts(commands: readonly Command[]): string[] {
  const list = commands.map(({ name, summary }): Definition => [`farbus-${name}(1)`, summary]);
  const words = Object.entries(topics).map(([name, { summary }]): Definition => [`farbus-${name}(7)`, summary]);
  return [
    `.SH SYNOPSIS\n${usageLine('COMMAND [OPTIONS]')}`,
    '.SH DESCRIPTION',
    paragraphs(`
      Farbus makes a device that is plugged into one computer usable on another, with nothing installed or changed in
      either operating system.`),
    `.SH COMMANDS\n${terms(list)}`,
    `.SH FURTHER PAGES\n${terms(words)}`,
    `.SH EXIT STATUS\n${terms(commonStatuses)}`,
    `.SH EXAMPLES\n${exampleLines(['farbus demo', 'farbus serve disk.img', 'farbus run --drive nbd://localhost/disk.img'])}`,
  ];
}

function commandParts(command: Command): string[] {
  const { name, usage, about, notes, options, statuses = [], examples, topics: named = [] } = command;
  const listed = Object.entries(options);
  return [
    `.SH SYNOPSIS\n${usage.map((line) => usageLine(`${name} ${line}`.trimEnd())).join('\n.br\n')}`,
    `.SH DESCRIPTION\n${paragraphs(about)}`,
    `.SH OPTIONS\n${[...listed.map(([option, table]) => optionPart(option, table)), terms([['--help', 'print this; -h prints a short help']])].join('\n')}`,
    ...(notes === undefined ? [] : [`.SH NOTES\n${paragraphs(notes)}`]),
    `.SH EXIT STATUS\n${terms([...commonStatuses, ...statuses])}`,
    `.SH EXAMPLES\n${exampleLines(examples)}`,
    seeAlso(['farbus(1)', ...named.map((topic: Topic) => `farbus-${topic}(7)`)]),
  ];
}

function optionPart(name: string, option: Option): string {
  const own = terms([[optionTerm(name, option), optionAbout(option)]]);
  return option.forms === undefined ? own : `${own}\n.RS\n${terms(option.forms)}\n.RE`;
}

function topicPart(part: TopicPart): string {
  if (typeof part === 'string') return paragraphs(part);
  return 'terms' in part ? terms(part.terms) : `.SH EXAMPLES\n${exampleLines(part.examples)}`;
}

function usageLine(line: string): string {
  return `.B farbus\n${plain(line)}`;
}

function terms(rows: readonly Definition[]): string {
  return rows.map(([term, about]) => `.TP\n.B "${plain(term).replaceAll('"', '\\(dq')}"\n${plain(about)}`).join('\n');
}

function paragraphs(text: string): string {
  const all = text.trim().split(/\n\s*\n/);
  return all.map((one) => `.PP\n${plain(one.trim().replace(/\s+/g, ' '))}`).join('\n');
}

function exampleLines(lines: readonly string[]): string {
  return lines.map((line) => `.PP\n.nf\n.RS\n${plain(line)}\n.RE\n.fi`).join('\n');
}

function seeAlso(pages: readonly string[]): string {
  return `.SH SEE ALSO\n${pages.map(plain).join(',\n')}`;
}

/** Names of roff for characters that it would replace by similar ones, or read as its own. */
const special: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
};

/** Text as it is, without requests of roff: a line that begins with a dot would be one. */
function plain(text: string): string {
  return text.replace(/[\\'`^~-]/g, (one) => special[one]!).replace(/^\./gm, '\\&.');
}
