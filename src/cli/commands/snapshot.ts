/** `farbus snapshot`: saves a running computer to a file. */
import { resolve } from 'node:path';
import { usageError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { askComputer } from '../../app/computer/control.js';
import { checkOutputFile, checkOutputFolder } from '../../app/output-file.js';
import { isSnapshot } from '../../machine/snapshot.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'snapshot',
  summary: 'save a running computer to a file',
  usage: ['NAME [FILE]'],
  about: `
    NAME is a computer of farbus run or of a site, as farbus ps shows it. FILE is replaced if it is a snapshot; by default
    it is the one file that belongs to the name, whose path is printed. farbus run with the same drives and options and
    --snapshot FILE goes on from there. A snapshot holds what the guest knows of its disks, and not the disks: once they
    were written, farbus run refuses it. So pause the computer first, and end it afterwards.`,
  options,
  examples: ['farbus snapshot desk desk.snap', 'farbus pause desk && farbus snapshot desk && farbus stop desk'],
  pages: ['run'],
  operands: 'file',
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, file, ...more] = operands;
  if (name === undefined || more.length > 0) throw usageError('farbus snapshot NAME [FILE]: give one computer');
  if (file !== undefined) {
    await checkOutputFolder(file);
    await checkOutputFile(file, 'a snapshot', isSnapshot);
  }
  // The process of the computer has another working directory.
  const request = { command: 'snapshot', ...(file !== undefined && { file: resolve(file) }) };
  const { done } = (await askComputer(name, request, { env: io.env, onWorking: tellWaiting(io) })) as { done: string };
  io.stdout.write(`${visible(done)}\n`);
  return 0;
}
