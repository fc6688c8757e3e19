/** `farbus cache`: shows what the cache folder holds, and cleans it. */
import { usageError } from '../../base/errors.js';
import { formatBytes } from '../../base/format.js';
import { jsonLine, visible } from '../../base/printable.js';
import { cacheFolder } from '../../guest/cache.node.js';
import { cacheEntries, cacheKinds, planClean, removeEntries, type CacheEntry } from '../../guest/cache-entries.node.js';
import { defineCommand } from '../command.js';
import { numberOption } from '../options.js';
import type { Given, Options } from '../table.js';
import type { CliIo } from '../ui/io.js';

const options = {
  'older-than': { value: 'DAYS', about: 'clean: only what was not used for so many days' },
  'dry-run': { about: 'clean: print what would be removed, and remove nothing' },
  json: { about: 'print JSON: sizes in bytes, times in ISO 8601' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'cache',
  summary: 'show what is kept of downloads, and clean it',
  usage: ['[--json]', 'clean [--older-than DAYS] [--dry-run] [--json]'],
  about: `
    Packages of Debian, the systems that are made of them, and snapshots of farbus demo are kept in ~/.cache/farbus
    ($XDG_CACHE_HOME/farbus), so that a second run needs neither the network nor the time. farbus cache shows the size and
    the last use of each kind. farbus cache clean removes them, but keeps what a running farbus uses; they are fetched
    again when they are needed. The files of the filter --cache are yours, and are not among them; nor
    are logs, which farbus logs --clean removes.`,
  options,
  examples: ['farbus cache', 'farbus cache clean --older-than 30', 'farbus cache clean --dry-run'],
  pages: ['run'],
  operands: ['clean'],
  run,
});

const dayMs = 24 * 60 * 60 * 1000;

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [action, more] = operands;
  if (more !== undefined || (action !== undefined && action !== 'clean')) {
    throw usageError(`farbus cache takes nothing or clean, and not ${more ?? action!}`);
  }
  const days = values['older-than'] === undefined ? 0 : numberOption('older-than', values['older-than'], 0, 36_500);
  const folder = cacheFolder(io.env);
  if (action === 'clean') return await clean(folder, Date.now() - days * dayMs, values, io);
  if (values['dry-run'] || values['older-than'] !== undefined) {
    throw usageError('--older-than and --dry-run are for farbus cache clean');
  }
  const entries = await cacheEntries(folder);
  const kinds = cacheKinds
    .map((kind) => ({ ...kind, ...summary(entries.filter((entry) => entry.kind === kind)) }))
    .filter(({ entries: count }) => count > 0);
  const total = sizeOf(entries);
  if (values.json) {
    const list = kinds.map(({ name, entries: count, bytes, lastUse }) => ({
      kind: name,
      entries: count,
      bytes,
      lastUse,
    }));
    io.stdout.write(jsonLine({ folder, total, kinds: list }));
    return 0;
  }
  const rows = [
    ...kinds.map(({ name, about, bytes, lastUse }) => [name, formatBytes(bytes), lastUse.slice(0, 10), about]),
    ['total', formatBytes(total), '', visible(folder)],
  ];
  io.stdout.write(rows.map(row).join(''));
  return 0;
}

function row([name, size, day, about]: readonly string[]): string {
  return `${name!.padEnd(11)}${size!.padStart(9)}  ${day!.padEnd(10)}  ${about}\n`;
}

function sizeOf(entries: readonly CacheEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function summary(entries: readonly CacheEntry[]): { entries: number; bytes: number; lastUse: string } {
  const lastUse = Math.max(0, ...entries.map((entry) => entry.lastUse));
  return { entries: entries.length, bytes: sizeOf(entries), lastUse: new Date(lastUse).toISOString() };
}

interface CleanValues {
  readonly 'dry-run': boolean;
  readonly json: boolean;
}

async function clean(folder: string, before: number, values: CleanValues, io: CliIo): Promise<number> {
  const dry = values['dry-run'];
  const plan = await planClean(folder, before);
  const removed = dry ? plan.remove : await removeEntries(folder, plan.remove);
  const [bytes, inUse] = [sizeOf(removed), plan.remove.length - removed.length + plan.inUse.length];
  if (values.json) {
    io.stdout.write(jsonLine({ folder, dryRun: dry, removed: removed.map(({ path }) => path), bytes, inUse }));
    return 0;
  }
  if (dry) {
    for (const { path, bytes: size } of removed) io.stdout.write(`${visible(path)}, ${formatBytes(size)}\n`);
  }
  const kept = inUse === 0 ? '' : `; a running farbus uses ${inUse} more, which ${dry ? 'stay' : 'stayed'}`;
  const count = `${removed.length} ${removed.length === 1 ? 'entry' : 'entries'}`;
  io.stderr.write(`farbus: ${dry ? 'would remove' : 'removed'} ${count}, ${formatBytes(bytes)}${kept}\n`);
  return 0;
}
