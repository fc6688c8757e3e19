/** `farbus screenshot`: saves a computer's screen as a picture or prints it as text. */
import { lstat } from 'node:fs/promises';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { openForWriting, replaceFile } from '../../base/files.node.js';
import { askComputer, type Screenshot } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { parseOptions } from '../options.js';
import { checkOutputFile } from '../../app/output-file.js';
import { isPng } from '../../app/computer/png.js';

export const help = `farbus screenshot: what a computer shows

Usage: farbus screenshot NAME FILE.png
       farbus screenshot NAME --text

NAME is that of farbus run --name. The picture is a PNG, in text modes and in graphics modes.

Options:
  --text   print the lines of a text screen instead

Examples:
  farbus screenshot desk desk.png
  farbus screenshot desk --text
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('screenshot', args, {
    allowPositionals: true,
    options: { text: { type: 'boolean', default: false } },
  });
  const [name, file, ...more] = positionals;
  if (name === undefined || (file === undefined) !== values.text || more.length > 0) {
    throw usageError('farbus screenshot NAME FILE.png: give a computer and a file, or --text');
  }
  if (file !== undefined) await checkOutputFile(file, 'a PNG picture', isPng);
  const request = { command: 'screenshot', picture: file !== undefined };
  const { png, text } = (await askComputer(name, request, { env: io.env, onWorking: tellWaiting(io) })) as Screenshot;
  if (file === undefined) {
    if (text.length === 0) throw new FarbusError(`${name} shows pixels: give a file for the picture`);
    io.stdout.write(`${text.join('\n').trimEnd()}\n`);
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
