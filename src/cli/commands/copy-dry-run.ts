/** `farbus copy --dry-run`: says what a copy would do. Nothing is made or changed. */
import { knownData } from '../../app/copy/known-data.js';
import { findStart, type CopyStartOptions } from '../../app/copy/start.js';
import type { TargetView } from '../../app/copy/target.js';
import { formatBytes } from '../../base/format.js';
import { jsonLine, visible } from '../../base/printable.js';
import { withoutSecrets } from '../../base/web-address.js';
import { exitStatus } from '../exit-status.js';
import type { CliIo } from '../ui/io.js';

export interface CopyDryRunOptions extends Omit<CopyStartOptions, 'target'> {
  readonly target: TargetView;
  readonly verify: boolean;
  readonly json: boolean;
}

/**
 * Prints what the copy would do.
 * @throws FarbusError if the copy would be refused
 */
export async function printDryRun(options: CopyDryRunOptions, io: CliIo): Promise<number> {
  const { source, target, verify, json, log, signal } = options;
  const [from, to] = [withoutSecrets(options.from), withoutSecrets(options.to)];
  const { device, state, kind, format } = target;
  const { journal, position: start } = await findStart({ ...options, target: device });
  const { size } = source.info;
  const data = await knownData(source, start, signal);
  if (json) {
    const there = { state, kind, format, size: device ? device.info.size : undefined };
    io.stdout.write(jsonLine({ from, to, dryRun: true, size, start, data, target: there, journal, verify }));
    return exitStatus.done;
  }
  const amount = data === undefined ? '' : `, of which ${formatBytes(data)} are data`;
  const rows = [
    ['from', `${visible(from)}: ${bytes(size)}`],
    ['to', `${visible(to)}: ${describe(target, size)}`],
    ['copies', `${bytes(size - start)}${start > 0 ? ` from byte ${start} on` : ''}${amount}`],
    ['journal', `${visible(journal)}, until the copy is complete`],
    ...(verify ? [['verifies', 'reads both disks again and compares every byte']] : []),
  ];
  io.stdout.write(rows.map(([name, text]) => `${name!.padEnd(9)} ${text!}\n`).join(''));
  log.log('info', 'dry run: nothing was changed');
  return exitStatus.done;
}

function bytes(count: number): string {
  return `${formatBytes(count)} (${count} bytes)`;
}

function describe({ device, state, kind, format }: TargetView, size: number): string {
  const content = format === undefined || format === 'raw' ? 'raw bytes' : `a ${format} image`;
  if (state === 'new') return `a new file, ${content} of ${bytes(size)}`;
  if (state === 'empty') return `an empty file, which becomes ${content} of ${bytes(size)}`;
  const there = bytes(device!.info.size);
  if (kind === 'other') return `a disk of ${there}, which is overwritten`;
  return `a ${kind} that exists, ${content} of ${there}, which is overwritten`;
}
