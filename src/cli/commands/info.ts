/**
 * `farbus info`: prints a source's size, block sizes and capabilities, and its partitions and file
 * systems.
 */
import { existsSync } from 'node:fs';
import { hexOf } from '../../base/hex.js';
import { FarbusError, failed, messageOf, usageError } from '../../base/errors.js';
import { jsonLine, visible } from '../../base/printable.js';
import { withoutSecrets } from '../../base/web-address.js';
import { formatBytes } from '../../base/format.js';
import type { BlockDevice, BlockInfo, Capabilities } from '../../block/device.js';
import { identifyDevice, type DriveIdentity } from '../../computer/identity.js';
import type { Content } from '../../probe/content.js';
import { probeDisk, type DiskLayout } from '../../probe/probe.js';
import type { Partition } from '../../probe/table.js';
import { uuidText } from '../../probe/text.js';
import { filtersOf, type Filters } from '../../app/filters.js';
import { aoeSegment } from '../../protocol/aoe/uri.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import { exitStatus } from '../exit-status.js';
import type { Given, Options } from '../table.js';
import { numberOption } from '../options.js';
import { Interrupted, onSignals } from '../ui/signals.js';
import { parseSource, type Source } from '../../app/source-text.js';
import { openSource, type SourceOptions } from '../../app/sources.js';
import { filterOptionsOf } from '../topics.js';

const options = {
  json: { about: 'print JSON: sizes and offsets in bytes' },
  reconnect: { value: 'SECONDS', default: '10', about: 'how long to try an unreachable server again' },
  ...filterOptionsOf(['partition', 'offset', 'size', 'format', 'may-open', 'read-only']),
} as const satisfies Options;

export const command = defineCommand({
  name: 'info',
  summary: 'show what a disk is and what is on it',
  usage: ['SOURCE[,FILTER]... [OPTIONS]', 'aoe:@SEGMENT [--json]'],
  about: `
    Prints the size and the block sizes, the capabilities of the device, its partition table (GPT or MBR) and the file
    systems on it by name, and the serial number and world wide name that a guest is told. The source is only read. A
    damaged partition table or ambiguous content is printed, and the exit status is still 0. It is 1 if the start of the
    source cannot be read and nothing is found on the rest. With --read-only the source is opened as other commands open
    it with that option, also if it is in use.

    aoe:@SEGMENT lists the AoE targets that answer on a segment within a second.`,
  options,
  topics: ['sources'],
  examples: ['farbus info disk.img', 'farbus info nbd://server/disk1 --json', 'farbus info aoe:@eth1'],
  pages: ['attach', 'filters'],
  operands: 'source',
  run,
});

/** Names of capabilities for people. */
const capabilities: Readonly<Record<keyof Capabilities, string>> = {
  flush: 'flush',
  fua: 'durable writes (FUA)',
  trim: 'trim',
  writeZeroes: 'write zeroes',
  extents: 'tells holes',
  multiConnection: 'several connections',
};

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [text, ...more] = operands;
  if (text === undefined) throw usageError('info about what? Give a SOURCE: farbus info disk.img');
  if (more.length > 0) throw usageError(`farbus info takes one source, and ${more[0]!} is a second`);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  const filters = filtersOf(values);
  const segment = aoeSegment(text);
  if (segment !== undefined) {
    const { printTargets } = await import('./info-aoe.js');
    return printTargets(segment, values.json, io);
  }
  const source = parseSource(text);
  checkFiles(source.filters);
  const signals = onSignals();
  const log = stderrLogger(io);
  let opened: Opened | undefined;
  try {
    const { device, whyReadOnly } = (opened = await signals.during(
      open(source, { filters, reconnectSeconds, log, signal: signals.signal }),
      (late) => late.device.close(),
    ));
    const work = Promise.all([probeDisk(device, { signal: signals.signal }), identifyDevice(device, log)]).then(
      async ([layout, drive]) => {
        const { info } = device;
        const isUnknown = !layout.table && !layout.content && !(await startIsReadable(device, signals.signal));
        const why = whyReadOnly === undefined ? {} : { whyReadOnly };
        io.stdout.write(
          values.json
            ? jsonLine({ source: withoutSecrets(text), ...info, ...why, ...layout, drive: driveNames(drive) })
            : describe(info, whyReadOnly, layout, drive, isUnknown),
        );
        return isUnknown ? exitStatus.failed : exitStatus.done;
      },
    );
    return await signals.during(work);
  } catch (error) {
    if (opened === undefined || error instanceof Interrupted) throw error;
    throw failed(`${text}: cannot be read`, error);
  } finally {
    // Nothing was written, so a signal may cut short the wait for a server that does not answer.
    if (opened) await signals.during(opened.device.close());
    signals.stop();
  }
}

/**
 * False if the first 4 KiB cannot be read: then the absence of content says nothing. Servers of
 * the web get the range of a single byte wrong more often.
 */
async function startIsReadable(device: BlockDevice, signal: AbortSignal): Promise<boolean> {
  const { size, blockSize } = device.info;
  if (size === 0) return true;
  const length = Math.min(size, Math.max(blockSize, 4096));
  return device.read(0, new Uint8Array(length), { signal }).then(
    () => true,
    () => signal.aborted,
  );
}

/** Refuses files that opening the source would make: this command makes none. */
function checkFiles(filters: Filters): void {
  for (const name of ['overlay', 'cache'] as const) {
    const path = filters[name];
    if (path === undefined || existsSync(path)) continue;
    throw new FarbusError(`${name}=${visible(path)}: there is no such file, and farbus info makes none: leave it out`);
  }
}

interface Opened {
  readonly device: BlockDevice;
  readonly whyReadOnly: string | undefined;
}

/**
 * Opens the source for writing, so that the result is true for a writer, but writes nothing. Opens
 * it read-only if that fails.
 */
async function open(source: Source, options: SourceOptions): Promise<Opened> {
  const isPath = existsSync(source.text);
  try {
    return { device: await openSource(source, { ...options, looksOnly: true, dryRun: true }), whyReadOnly: undefined };
  } catch (error) {
    if (!isPath || options.signal?.aborted) throw error;
    const device = await openSource(source, { ...options, readOnly: true, dryRun: true });
    return { device, whyReadOnly: messageOf(error) };
  }
}

/** The names that a guest sees in /dev/disk/by-id and sysfs. */
function driveNames({ serial, uuid, worldWideName, content }: DriveIdentity) {
  return {
    serial,
    uuid: uuidText(uuid)!,
    wwn: `0x${hexOf(worldWideName)}`,
    follows: content === '' ? 'name' : content,
  };
}

function describe(
  info: BlockInfo,
  whyReadOnly: string | undefined,
  { table, content, ambiguous = [], problems }: DiskLayout,
  drive: DriveIdentity,
  isUnknown: boolean,
): string {
  const can = (Object.keys(capabilities) as (keyof Capabilities)[]).filter((name) => info.can[name]);
  const nature = [info.readOnly ? `read-only${whyReadOnly === undefined ? '' : ` (${whyReadOnly})`}` : 'writable'];
  if (info.removable) nature.push('removable');
  if (info.rotational) nature.push('rotational');
  const rows: [string, string][] = [
    ['size', `${formatBytes(info.size)} (${info.size} bytes)`],
    ['blocks', `${info.blockSize} bytes, best in ${formatBytes(info.preferredSize)}`],
    ['nature', nature.join(', ')],
    ['can', can.map((name) => capabilities[name]).join(', ') || 'nothing beyond reading and writing'],
  ];
  if (info.identity !== '') rows.push(['identity', info.identity]);
  if (info.identity !== '' || drive.content !== '') {
    const { serial, wwn, follows } = driveNames(drive);
    rows.push(['drive', `serial ${serial}, wwn ${wwn}, from its ${follows}`]);
  }
  if (content) rows.push(['content', contentText(content)]);
  if (table) {
    const id = table.id === '' ? '' : ` ${table.id}`;
    rows.push(['table', `${table.kind === 'gpt' ? 'GPT' : 'MBR'}${id}, ${table.partitions.length} partitions`]);
  } else if (!content) {
    rows.push(['content', isUnknown ? 'unknown' : 'no partition table or file system that is known']);
  }
  const lines = rows.map(([name, text]) => `${name.padEnd(10)}${text}`);
  if (table) lines.push(...partitionLines(table.partitions));
  lines.push(...ambiguous.map((one) => `ambiguous ${one}`));
  lines.push(...problems.map((problem) => `problem   ${problem}`));
  return lines.map((line) => `${visible(line)}\n`).join('');
}

function contentText({ type, label, uuid }: Content): string {
  return [type, label === undefined ? '' : JSON.stringify(label), uuid ?? ''].filter((part) => part !== '').join(' ');
}

/** One line per partition, in columns. */
function partitionLines(partitions: readonly Partition[]): string[] {
  const rows = partitions.map((one) => [
    `  ${one.number}`,
    `at ${one.start}`,
    formatBytes(one.size),
    `${one.type === 'unknown' ? one.typeId : one.type}${one.bootable ? ' *' : ''}`,
    one.name === undefined ? '' : JSON.stringify(one.name),
    one.content ? contentText(one.content) : '',
  ]);
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(0, ...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
