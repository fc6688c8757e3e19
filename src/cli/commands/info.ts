/**
 * `farbus info`: prints a source's size, block sizes and capabilities, and its partitions and file
 * systems.
 */
import { existsSync } from 'node:fs';
import { messageOf, usageError } from '../../base/errors.js';
import { jsonLine, visible } from '../../base/printable.js';
import { formatBytes } from '../../base/format.js';
import type { BlockDevice, BlockInfo, Capabilities } from '../../block/device.js';
import { identifyDevice, type DriveIdentity } from '../../computer/identity.js';
import type { Content } from '../../probe/content.js';
import { probeDisk, type DiskLayout } from '../../probe/probe.js';
import type { Partition } from '../../probe/table.js';
import { hex, uuidText } from '../../probe/text.js';
import { filterConfig, filtersOf } from '../../app/filters.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { failed, numberOption, parseOptions } from '../options.js';
import { Interrupted, onSignals } from '../ui/signals.js';
import { openDrive, sourceHelp, type OpenDriveOptions } from '../../app/sources.js';

export const help = `farbus info: what a disk is, and what is on it

Usage: farbus info SOURCE [--json] [--reconnect SECONDS]

Prints the size and the block sizes, what the device can do, its partition table (GPT or MBR) and the file systems on it by
name, and what serial number and world wide name a guest is told. The source is only read. Exit status 0, also where the partition
table is damaged or what is on the disk is ambiguous: that is printed.

${sourceHelp}

Options:
  --json               print it as JSON: sizes and offsets in bytes
  --reconnect SECONDS  how long an unreachable server is tried again (default 10)
  --partition N, --offset BYTES, --size BYTES
                       only about that part
  --read-only          open it as the other commands do with --read-only, also where it is in use
  --format FORMAT      what the source's bytes are, as in farbus attach --help
  --may-open FILE      a file that an image may take content from, as in farbus attach --help

Examples:
  farbus info disk.img
  farbus info nbd://server/disk1 --json
`;

/** Names of capabilities for people. */
const capabilities: Readonly<Record<keyof Capabilities, string>> = {
  flush: 'flush',
  fua: 'durable writes (FUA)',
  trim: 'trim',
  writeZeroes: 'write zeroes',
  extents: 'tells holes',
  multiConnection: 'several connections',
};

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('info', args, {
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      reconnect: { type: 'string', default: '10' },
      ...filterConfig(['partition', 'offset', 'size', 'format', 'may-open', 'read-only']),
    },
  });
  const [source, ...more] = positionals;
  if (source === undefined) throw usageError('info about what? Give a SOURCE: farbus info disk.img');
  if (more.length > 0) throw usageError(`farbus info takes one source, and ${more[0]!} is a second`);
  const reconnectSeconds = numberOption('reconnect', values.reconnect, 0, 86_400);
  const filters = filtersOf(values);
  const signals = onSignals();
  const log = stderrLogger(io);
  let opened: Opened | undefined;
  try {
    const { device, whyReadOnly } = (opened = await signals.during(
      open(source, { filters, reconnectSeconds, log }),
      (late) => late.device.close(),
    ));
    const work = Promise.all([probeDisk(device), identifyDevice(device, log)]).then(([layout, drive]) => {
      const { info } = device;
      const why = whyReadOnly === undefined ? {} : { whyReadOnly };
      io.stdout.write(
        values.json
          ? jsonLine({ source, ...info, ...why, ...layout, drive: driveNames(drive) })
          : describe(info, whyReadOnly, layout, drive),
      );
      return 0;
    });
    return await signals.during(work);
  } catch (error) {
    if (opened === undefined || error instanceof Interrupted) throw error;
    throw failed(`${source}: cannot be read`, error);
  } finally {
    // Nothing was written, so a signal may cut short the wait for a server that does not answer.
    if (opened) await signals.during(opened.device.close());
    signals.stop();
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
async function open(source: string, options: OpenDriveOptions): Promise<Opened> {
  const isPath = existsSync(source);
  try {
    return { device: await openDrive(source, { ...options, looksOnly: true }), whyReadOnly: undefined };
  } catch (error) {
    if (!isPath) throw error;
    const device = await openDrive(source, { ...options, readOnly: true });
    return { device, whyReadOnly: messageOf(error) };
  }
}

/** The names that a guest sees in /dev/disk/by-id and sysfs. */
function driveNames({ serial, uuid, worldWideName, content }: DriveIdentity) {
  return { serial, uuid: uuidText(uuid)!, wwn: `0x${hex(worldWideName)}`, follows: content === '' ? 'name' : content };
}

function describe(
  info: BlockInfo,
  whyReadOnly: string | undefined,
  { table, content, ambiguous = [], problems }: DiskLayout,
  drive: DriveIdentity,
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
    rows.push(['content', 'no partition table or file system that is known']);
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
