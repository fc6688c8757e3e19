/** `farbus drive`: shows, attaches and detaches the disks of a running computer. */
import { usageError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { askComputer, type DriveState } from '../../app/computer/control.js';
import { absoluteText } from '../../app/source-text.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'drive',
  summary: 'show, attach and detach disks of a running computer',
  usage: ['NAME', 'NAME attach NUMBER SOURCE[,FILTER]...', 'NAME detach NUMBER'],
  about: `
    NAME is a computer of farbus run or of a site, as farbus ps shows it. Without more it prints the computer's drives,
    and the change that each permits now. Disks of the bus AHCI are attached and detached while the guest runs, as if
    their cables were plugged: NUMBER counts the drives from 0. Let the guest unmount a disk before it is detached.
    farbus media changes the media of removable drives.`,
  options,
  topics: ['sources', 'filters'],
  examples: ['farbus drive desk', 'farbus drive desk detach 1', 'farbus drive desk attach 1 nbd://server/disk.img'],
  pages: ['run', 'ahci'],
  operands: 'source',
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, action, number, source, ...more] = operands;
  const right =
    action === undefined ||
    (action === 'detach' && number !== undefined && source === undefined) ||
    (action === 'attach' && source !== undefined);
  if (name === undefined || !right || more.length > 0) {
    throw usageError('farbus drive NAME, NAME attach NUMBER SOURCE, or NAME detach NUMBER; see farbus drive --help');
  }
  const asking = { env: io.env, onWorking: tellWaiting(io) };
  if (action === undefined) {
    const drives = (await askComputer(name, { command: 'drives' }, asking)) as DriveState[];
    for (const one of drives) io.stdout.write(`${visible(lineOf(one))}\n`);
    return 0;
  }
  if (!/^\d{1,2}$/.test(number!))
    throw usageError(`${number!}: expected the number of a drive, which farbus drive ${name} shows`);
  const drive = Number(number);
  // The process of the computer has another working directory.
  const request = { command: action, drive, ...(source !== undefined && { source: absoluteText(source) }) };
  const { done } = (await askComputer(name, request, asking)) as { done: string };
  io.stdout.write(`${visible(done)}\n`);
  return 0;
}

function lineOf({ drive, kind, source, can }: DriveState): string {
  return `${drive}  ${kind}  ${source ?? 'empty'}${can === undefined ? '' : `  (can ${can})`}`;
}
