/** `farbus stop`: ends computers, servers, attached disks and sites in order. */
import { existsSync } from 'node:fs';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { sleep } from '../../base/event-loop.js';
import { isDead, startOf } from '../../base/owned.node.js';
import { visible } from '../../base/printable.js';
import { askControl } from '../../app/control/client.js';
import { describeMs } from '../../app/control/description.js';
import { describeAll, findNamed, type Named } from '../../app/control/find.js';
import type { ProcessKind } from '../../app/control/kinds.js';
import { running } from '../../app/control/registry.js';
import type { CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { exitStatus } from '../exit-status.js';
import { numberOption } from '../options.js';
import { onSignals } from '../ui/signals.js';

const options = {
  all: { about: 'end all that farbus ps lists: computers and sites first, then disks, then servers' },
  timeout: {
    value: 'SECONDS',
    default: '30',
    about: 'how long to wait for the end; what has not ended then continues to end',
  },
} as const satisfies Options;

export const command = defineCommand({
  name: 'stop',
  summary: 'end computers, servers, disks or sites',
  usage: ['NAME... [--timeout SECONDS]', '--all [--timeout SECONDS]'],
  about: `
    Ends each named process in order, as SIGTERM does, and waits for its end: requests in flight are answered, and what was
    acknowledged is flushed. NAME is a name that farbus ps shows; SITE/COMPUTER ends one computer of a site. A guest is not
    asked to shut down: unmount its disks or shut it down before.`,
  options,
  statuses: [['1', 'also: one of them does not run, or had not ended in time']],
  examples: ['farbus stop server', 'farbus stop desk disk-2', 'farbus stop demo/desk', 'farbus stop --all'],
  pages: ['processes'],
  operands: [],
  run,
});

/** Interval of looking whether a process has ended, in ms. */
const pollMs = 50;

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  if (values.all && operands.length > 0) throw usageError('farbus stop: give names or --all, not both');
  if (!values.all && operands.length === 0) {
    throw usageError('farbus stop NAME... or --all: give a name that farbus ps shows');
  }
  const limitMs = numberOption('timeout', values.timeout, 0, 86_400) * 1000;
  const signals = onSignals();
  try {
    if (values.all) return await signals.during(stopAll(limitMs, io));
    // Find all before one of them ends: the names of a site's computers go with it.
    const names = [...new Set(operands)];
    const found = await Promise.all(names.map((name) => attempt(() => findNamed(name, io.env))));
    const ended = await signals.during(
      Promise.all(
        found.map(async (one, index) => {
          const why = one instanceof Error ? one : await attempt(() => stop(one, limitMs));
          return report(names[index]!, why, io);
        }),
      ),
    );
    return ended.every((one) => one) ? exitStatus.done : exitStatus.failed;
  } finally {
    signals.stop();
  }
}

/**
 * The order in which all are ended: a computer flushes its disks to the servers that end after it.
 * Those of one step end at the same time.
 */
const steps: readonly (readonly ProcessKind[])[] = [['computer', 'site'], ['attach'], ['serve']];

async function stopAll(limitMs: number, io: CliIo): Promise<number> {
  const { answers, silent } = await describeAll(await running(io.env));
  const all = [...answers.map(({ process }) => process), ...silent];
  if (all.length === 0) io.stdout.write('nothing of farbus runs here\n');
  let ended = true;
  for (const kinds of steps) {
    const ones = all.filter(({ kind }) => kinds.includes(kind));
    const step = ones.map(async (process) => {
      const why = await attempt(() => stop({ process, computer: undefined }, limitMs));
      return report(process.name, why, io);
    });
    ended = (await Promise.all(step)).every((one) => one) && ended;
  }
  return ended ? exitStatus.done : exitStatus.failed;
}

/** Prints that one has ended, or why not. True if it has ended. */
function report(name: string, why: unknown, io: CliIo): boolean {
  const ended = !(why instanceof Error);
  if (ended) io.stdout.write(`${name} has ended\n`);
  else io.stderr.write(`farbus: ${visible(messageOf(why))}\n`);
  return ended;
}

/** The result of `work`, or the FarbusError that it rejects with. */
async function attempt<T>(work: () => Promise<T>): Promise<T | FarbusError> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FarbusError) return error;
    throw error;
  }
}

/** Rejects with a FarbusError if the process does not answer or has not ended in time. */
async function stop({ process: { name, path, pid }, computer }: Named, limitMs: number): Promise<void> {
  if (computer !== undefined) {
    await askControl(path, { command: 'stop-computer', computer }, { limitMs: Math.max(limitMs, 1), absolute: true });
    return;
  }
  // Ids are reused: the time of its start tells a process from a later one.
  const start = startOf(pid);
  await askControl(path, { command: 'stop' }, { limitMs: describeMs, absolute: true });
  // A process of another pid namespace cannot be seen: then the end of its socket is its end.
  const runs = async (): Promise<boolean> => (start === undefined ? !(await isGone(path)) : startOf(pid) === start);
  const until = performance.now() + limitMs;
  while (await runs()) {
    if (performance.now() >= until) {
      throw new FarbusError(
        `${name} (process ${pid}) has not ended within ${limitMs / 1000} s, and continues to end: farbus stop waits longer with --timeout`,
      );
    }
    await sleep(pollMs);
  }
}

async function isGone(path: string): Promise<boolean> {
  return !existsSync(path) || (await isDead(path));
}
