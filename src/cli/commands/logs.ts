/** `farbus logs`: prints logs of a site's computers and of detached processes. */
import { join } from 'node:path';
import { FarbusError, usageError } from '../../base/errors.js';
import { sleep } from '../../base/event-loop.js';
import { jsonLine, visible } from '../../base/printable.js';
import { similar } from '../../base/similar.js';
import type { Registered } from '../../app/control/kinds.js';
import { running } from '../../app/control/registry.js';
import { detachedLogs, logsFolder } from '../../site/folders.node.js';
import { consoleEnd, logEnd } from '../../site/logs.node.js';
import { loggedComputers, loggedSites, LogReader } from '../../site/read-logs.node.js';
import type { CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { numberOption } from '../options.js';
import { onSignals } from '../ui/signals.js';
import { runningSites, siteCalled } from '../../app/site/site.js';
import { cleanLogs } from './logs-clean.js';
import { listLogs } from './logs-list.js';

const options = {
  lines: { value: 'N', short: 'n', default: '200', about: 'the last N lines of each log' },
  follow: { short: 'f', about: 'continue with new lines, until the site ends or Ctrl-C' },
  console: { about: 'print the output of the consoles instead' },
  site: { value: 'SITE', about: 'the site, if several run; or one that has ended' },
  list: { about: 'list the logs that there are, with their sizes and the times of their last lines, and print no log' },
  clean: { about: 'remove the logs of what has ended, or of the named sites and processes, and print nothing else' },
  'older-than': { value: 'DAYS', about: 'clean: only logs without a new line for so many days' },
  json: { about: 'print each line as an object with computer, time and text; list: a list of objects' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'logs',
  summary: 'print the logs of a site or of detached processes',
  usage: ['[COMPUTER|NAME]... [OPTIONS]', '--list [NAME]... [--json]', '--clean [NAME]... [--older-than DAYS]'],
  about: `
    Prints the log of each computer, or of the named ones: the messages of its hypervisor, its states and the steps of its
    boot. Each line has its time and, if there are several computers, the computer's name in front. The logs remain when
    the site has ended, until it is started again. If no site runs, the logs of the last one are printed. NAME is a site,
    or a computer or server that was started with --detach; its logs remain until another one of that name is started.`,
  options,
  notes: 'Control characters are printed as \\xNN. Each log has at most 16 MiB: older lines are dropped.',
  examples: [
    'farbus logs',
    'farbus logs server --follow',
    'farbus logs store --follow',
    'farbus logs --console desk --lines 50',
    'farbus logs --list',
    'farbus logs --clean --older-than 30',
  ],
  pages: ['site'],
  operands: [],
  run,
});

/** Interval of looking for new lines with --follow, in ms. */
const pollMs = 200;

async function run({ values, operands, given }: Given<typeof options>, io: CliIo): Promise<number> {
  if (values.list) {
    if (given.size > (given.has('json') ? 2 : 1)) throw usageError('--list takes only --json');
    return listLogs(operands, values.json, io);
  }
  if (values.clean) {
    if (given.size > (given.has('older-than') ? 2 : 1)) throw usageError('--clean takes only --older-than');
    const days = values['older-than'] === undefined ? 0 : numberOption('older-than', values['older-than'], 0, 36_500);
    return cleanLogs(operands, days, io);
  }
  if (values['older-than'] !== undefined) throw usageError('--older-than is for farbus logs --clean');
  const count = numberOption('lines', values.lines, 0, 10_000_000);
  const { what, files, runs } = await chooseLogs(io, values.site, operands);
  const names = [...files.keys()];
  const output = new Output(io, names, values.json, !values.console);
  const readers = new Map<string, LogReader>();
  for (const [name, path] of files) readers.set(name, new LogReader(path + (values.console ? consoleEnd : logEnd)));
  const signals = onSignals();
  try {
    await output.print(entriesOf(readers, (reader) => reader.last(count)));
    if (values.follow && (await runs())) {
      const stop = signals.received.then((status) => ({ status }));
      for (let ended = false; !ended && !output.broken;) {
        const signal = await Promise.race([stop, sleep(pollMs)]);
        if (signal) return signal.status;
        // Ask before reading, so that the last lines are read after the end.
        ended = !(await runs());
        await output.print(entriesOf(readers, (reader) => reader.read()));
      }
    }
    if (values.console) await output.print(entriesOf(readers, ({ unfinished }) => (unfinished ? [unfinished] : [])));
    if (values.follow && !output.broken) io.stderr.write(`farbus: ${what} has ended\n`);
    return 0;
  } finally {
    signals.stop();
    for (const reader of readers.values()) reader.close();
  }
}

interface Logs {
  /** Their owner, for messages. */
  readonly what: string;
  /** Paths of logs without their endings, by the name that is shown. */
  readonly files: ReadonlyMap<string, string>;
  /** False when no more lines follow. */
  readonly runs: () => Promise<boolean>;
}

/** The logs of the named detached processes, else of a site or of its named computers. */
async function chooseLogs(io: CliIo, named: string | undefined, operands: readonly string[]): Promise<Logs> {
  const names = [...new Set(operands)];
  const alive = await running(io.env);
  const detached = new Set(named === undefined ? detachedNames(io.env) : []);
  if (names.length > 0 && names.every((name) => detached.has(name) && !isSite(alive, name))) {
    return {
      what: names.join(', '),
      files: new Map(names.map((name) => [name, join(detachedLogs(io.env, name), name)])),
      runs: async () => (await running(io.env)).some(({ name }) => names.includes(name)),
    };
  }
  const attached = alive.find(({ kind, name }) => kind !== 'site' && names.includes(name));
  if (attached && named === undefined) {
    throw new FarbusError(`${attached.name} was started without --detach: its messages are where it was started`);
  }
  const [first, ...more] = names;
  const whole = named === undefined && first !== undefined && more.length === 0 && isLoggedSite(io.env, first);
  const { site, runs, last } = await chooseSite(io, whole ? first : named);
  const folder = join(logsFolder(io.env), site);
  const known = loggedComputers(folder);
  const wanted = whole ? [] : names.map((name) => (name.startsWith(`${site}/`) ? name.slice(site.length + 1) : name));
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) throw noLog(site, unknown, [...known, ...detached]);
  if (last) io.stderr.write(`farbus: no site runs; the logs of ${site}, which has ended:\n`);
  const computers = wanted.length > 0 ? wanted : known;
  return {
    what: `the site ${site}`,
    files: new Map(computers.map((name) => [name, join(folder, name)])),
    runs: async () => runs && (await siteCalled(site, io.env)) !== undefined,
  };
}

function isSite(alive: readonly Registered[], name: string): boolean {
  return alive.some((one) => one.kind === 'site' && one.name === name);
}

function isLoggedSite(env: NodeJS.ProcessEnv, name: string): boolean {
  return loggedSites(logsFolder(env)).includes(name);
}

/** Names of detached processes with logs. */
function detachedNames(env: NodeJS.ProcessEnv): string[] {
  return loggedSites(detachedLogs(env, ''));
}

/** Most names in an error. */
const mostNames = 10;

function noLog(site: string, name: string, known: readonly string[]): FarbusError {
  const meant = similar(name, known);
  const question = meant === undefined ? '' : `did you mean ${meant}? `;
  const rest = known.length > mostNames ? ` and ${known.length - mostNames} more` : '';
  const list = `${known.slice(0, mostNames).join(', ')}${rest}`;
  return new FarbusError(
    `neither the site ${site} nor a detached process has a log of ${JSON.stringify(name.slice(0, 100))}; ${question}give one of ${list}`,
  );
}

/** The named site, else the only running one, else the `last` one that ran. */
async function chooseSite(
  io: CliIo,
  named: string | undefined,
): Promise<{ site: string; runs: boolean; last: boolean }> {
  const running = (await runningSites(io.env)).map(({ name }) => name);
  const logged = loggedSites(logsFolder(io.env));
  if (named !== undefined) {
    if (logged.includes(named)) return { site: named, runs: running.includes(named), last: false };
    const others = logged.length > 0 ? `; there are those of ${logged.join(', ')}` : '';
    throw new FarbusError(`there are no logs of a site ${JSON.stringify(named)}${others}`);
  }
  if (running.length > 1) throw new FarbusError(`several sites run: say which by --site: ${running.join(', ')}`);
  const site = running[0] ?? logged[0];
  if (site !== undefined && !logged.includes(site)) throw new FarbusError(`the site ${site} has no logs yet`);
  if (site === undefined) {
    const [one] = detachedNames(io.env);
    if (one !== undefined) {
      throw new FarbusError(
        `no site runs or has run; farbus logs ${one} prints those of ${one}, and farbus logs --list lists all`,
      );
    }
    throw new FarbusError('there are no logs, as no site runs or has run: farbus up SITE-FILE starts one');
  }
  return { site, runs: running.length > 0, last: running.length === 0 };
}

interface Entry {
  readonly computer: string;
  readonly line: string;
}

function entriesOf(readers: ReadonlyMap<string, LogReader>, lines: (reader: LogReader) => string[]): Entry[] {
  return [...readers].flatMap(([computer, reader]) => lines(reader).map((line) => ({ computer, line })));
}

/** Format of the lines that site/logs.node.ts writes. */
const timed = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (.*)$/s;

/**
 * Prints lines on stdout: sorted by time if there are several computers, with the computer's name
 * in front.
 */
class Output {
  readonly #io: CliIo;
  readonly #width: number;
  readonly #json: boolean;
  readonly #timed: boolean;
  #drained: (() => void) | undefined;
  /** The reader of stdout is gone. */
  broken = false;

  constructor(io: CliIo, computers: readonly string[], json: boolean, hasTimes: boolean) {
    this.#io = io;
    this.#width = computers.length > 1 ? Math.max(...computers.map((name) => name.length)) : 0;
    this.#json = json;
    this.#timed = hasTimes;
    // A reader that leaves (farbus logs | head) is no error. It may be noticed only after the last
    // line.
    io.stdout.on('error', () => {
      this.broken = true;
      this.#drained?.();
    });
  }

  async print(entries: Entry[]): Promise<void> {
    // The sort is stable, so the lines of one computer stay in order.
    if (this.#timed) entries.sort((a, b) => compare(a.line.slice(0, 24), b.line.slice(0, 24)));
    for (const entry of entries) {
      if (this.broken) return;
      if (this.#io.stdout.write(`${this.#text(entry)}\n`)) continue;
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
        this.#io.stdout.once('drain', resolve);
      });
    }
  }

  #text({ computer, line }: Entry): string {
    const [, time, text = line] = (this.#timed && timed.exec(line)) || [];
    if (this.#json)
      return jsonLine({ computer, ...(time !== undefined && { time }), text: text.replace(/\r$/, '') }).trimEnd();
    const shown = escaped(line.replace(/\r+$/, ''));
    return this.#width > 0 ? `${computer.padEnd(this.#width)} | ${shown}` : shown;
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Log text from other programs, without loss: hidden characters become escapes; tabs stay. */
function escaped(text: string): string {
  const bytes = text.replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f]/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return bytes
    .split('\t')
    .map((part) => visible(part))
    .join('\t');
}
