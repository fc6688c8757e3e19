/** `farbus screenshot`: saves a computer's screen as a picture or prints it as text. */
import { lstat } from 'node:fs/promises';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { openForWriting, replaceFile } from '../../base/files.node.js';
import { askComputer, type Screenshot } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { checkOutputFile, checkOutputFolder } from '../../app/output-file.js';
import { isPng } from '../../app/computer/png.js';
import { asciiOf, hasUnicode } from '../ui/style.js';

const options = {
  text: { about: 'print the lines of a text screen instead' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'screenshot',
  summary: 'save the screen of a running computer as a picture',
  usage: ['NAME FILE.png', 'NAME --text'],
  about: `
    NAME is a computer of farbus run or of a site, as farbus ps shows it. The picture is a PNG, in text modes and in graphics modes. A
    kernel that is started without firmware finds no screen, so there is none: use farbus console.`,
  options,
  examples: ['farbus screenshot desk desk.png', 'farbus screenshot desk --text'],
  pages: ['run'],
  operands: 'file',
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, file, ...more] = operands;
  if (name === undefined || (file === undefined) !== values.text || more.length > 0) {
    throw usageError('farbus screenshot NAME FILE.png: give a computer and a file, or --text');
  }
  if (file !== undefined) {
    await checkOutputFolder(file);
    await checkOutputFile(file, 'a PNG picture', isPng);
  }
  const request = { command: 'screenshot', picture: file !== undefined };
  const { png, text } = (await askComputer(name, request, { env: io.env, onWorking: tellWaiting(io) })) as Screenshot;
  if (file === undefined) {
    if (text.length === 0) throw new FarbusError(`${name} shows pixels: give a file for the picture`);
    const lines = text.join('\n').trimEnd();
    io.stdout.write(`${hasUnicode(io.env) ? lines : lines.replace(/[^\n]/g, asciiOf)}\n`);
    return 0;
  }
  try {
    await writePicture(file, Buffer.from(png!, 'base64'));
  } catch (error) {
    throw new FarbusError(`cannot write the picture: ${messageOf(error)}`, { cause: error });
  }
  return 0;
}

/**
 * Writes a file completely or not at all. A device or named pipe (/dev/stdout) is written directly.
 */
async function writePicture(path: string, png: Uint8Array): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found || found.isFile()) return replaceFile(path, [png], { mode: 0o666 });
  const file = await openForWriting(path);
  try {
    await file.writeFile(png);
  } finally {
    await file.close();
  }
}
