/** `farbus ps`: lists the computers, servers, attached disks and sites of this user. */
import { usageError } from '../../base/errors.js';
import { sleep } from '../../base/event-loop.js';
import { formatSeconds } from '../../base/format.js';
import { jsonLine, visible } from '../../base/printable.js';
import { describeAll, silentText, type Descriptions } from '../../app/control/find.js';
import { kindWords } from '../../app/control/kinds.js';
import { running } from '../../app/control/registry.js';
import type { CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { exitStatus } from '../exit-status.js';
import { onSignals } from '../ui/signals.js';
import { layOut, type Row } from '../ui/process-table.js';

const options = {
  json: {
    about:
      'print a list of objects with name, kind, pid, since, state, uses and reach, in one line; and ways: the ' +
      'gateways in use, and the sources whose servers are lost',
  },
  quiet: { short: 'q', about: 'print only the names of the processes, one a line' },
  watch: { short: 'w', about: 'print the list again when it changes, until Ctrl-C; a terminal is redrawn' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'ps',
  summary: 'list the computers, servers, disks and sites that run here',
  usage: ['[OPTIONS]'],
  about: `
    Lists every process of farbus run (a computer), serve (a server), attach (a disk) and up (a site with its computers) of
    this user: its name, its kind, for how long it has been up, the sources that it uses, and a URI or command that reaches
    it. "+2" after one says that there are two more; farbus status NAME shows all. A source whose server is lost is
    marked "(away)". A process that does not answer within 2
    seconds is listed as silent and named on stderr. Long texts are cut to the width of a terminal, and not in a pipe.`,
  options,
  statuses: [['1', 'also: a process did not answer within 2 seconds']],
  examples: ['farbus ps', 'farbus ps --json', 'farbus stop $(farbus ps --quiet)'],
  pages: ['processes'],
  operands: [],
  run,
});

/** Interval of looking again with --watch, in ms. */
const watchMs = 1000;

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  if (operands.length > 0) throw usageError('farbus ps takes no names: farbus status NAME shows one');
  if (values.json && values.quiet) throw usageError('give --json or --quiet, not both');
  const text = (found: Descriptions): string => {
    if (values.json) return jsonLine(jsonOf(found));
    if (values.quiet)
      return processesOf(found)
        .map(({ name }) => `${name}\n`)
        .join('');
    return tableOf(found, io.stdout.columns ?? Infinity);
  };
  if (values.watch) return watch(text, io);
  const found = await describeAll(await running(io.env));
  io.stdout.write(text(found));
  if (found.silent.length === 0) return exitStatus.done;
  io.stderr.write(`farbus: ${visible(silentText(found.silent))}\n`);
  return exitStatus.failed;
}

/** Prints the list until a signal. On a terminal each one replaces the one before. */
async function watch(text: (found: Descriptions) => string, io: CliIo): Promise<number> {
  const signals = onSignals();
  const ended = signals.received.then((status) => ({ status }));
  const unread = io.stdoutFailed?.then(() => ({ status: exitStatus.done })) ?? new Promise<never>(() => undefined);
  const tty = io.stdout.isTTY === true;
  let shown: string | undefined;
  try {
    for (;;) {
      const found = await Promise.race([ended, unread, running(io.env).then(describeAll)]);
      if ('status' in found) return found.status;
      // In a pipe, the time that passes is no change.
      const facts = JSON.stringify(jsonOf(found));
      if (tty) io.stdout.write(`\x1b[H\x1b[J${text(found)}`);
      else if (facts !== shown) io.stdout.write(text(found));
      shown = facts;
      const over = await Promise.race([ended, unread, sleep(watchMs)]);
      if (over) return over.status;
    }
  } finally {
    signals.stop();
  }
}

/** Names of all processes in order. */
function processesOf({ answers, silent }: Descriptions): { readonly name: string }[] {
  return sorted([...answers.map(({ process }) => process), ...silent]);
}

function jsonOf({ answers, silent }: Descriptions): { readonly name: string }[] {
  const quiet = silent.map(({ kind, name, pid }) => ({ kind, name, pid, state: 'silent', uses: [], reach: [] }));
  return sorted([...answers.map(({ description }) => description), ...quiet]).map((one) => ({
    ...one,
    kind: kindWords[one.kind],
  }));
}

function sorted<T extends { readonly name: string }>(all: readonly T[]): T[] {
  return [...all].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function tableOf({ answers, silent }: Descriptions, width: number): string {
  const entries = [
    ...answers.map(({ description }) => {
      const { name, kind, since, state, reach, ways = [], computers = [] } = description;
      const lost = ways.filter(({ away }) => away !== undefined).map(({ source }) => source);
      const uses = description.uses.map((one) => (lost.includes(one) ? `${one} (away)` : one));
      const up = formatSeconds(Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1000)));
      const own: Row = { name, kind: kindWords[kind], up: state === 'running' ? up : state, uses, reach };
      const parts = computers.map((one): Row => {
        const stateOf = one.state === 'running' ? up : one.state;
        return { name: `${name}/${one.name}`, kind: 'computer', up: stateOf, uses: one.uses, reach: one.reach };
      });
      return { name, rows: [own, ...parts] };
    }),
    ...silent.map(({ name, kind, pid }) => {
      const row: Row = { name, kind: kindWords[kind], up: 'silent', uses: [`process ${pid}`], reach: [] };
      return { name, rows: [row] };
    }),
  ];
  if (entries.length === 0) return 'nothing of farbus runs here\n';
  return layOut(
    sorted(entries).flatMap(({ rows }) => rows),
    width,
  );
}
