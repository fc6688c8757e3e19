/** `farbus type`: types on the keyboard of a computer. */
import { usageError } from '../../base/errors.js';
import { keyNames, splitKeys } from '../../machine/keys.js';
import { askComputer } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { parseOptions } from '../options.js';

/** Maximum keys in one request, because typing takes time. */
const atOnce = 100;

export const help = `farbus type: type on the keyboard of a computer

Usage: farbus type NAME TEXT...

NAME is that of farbus run --name. TEXT is typed as it is, with keys in angle brackets: <enter>, <esc>, <f10>,
<ctrl-c>, <ctrl-alt-delete>; <lt> is "<". Several TEXTs are typed one after the other. The layout is the US one.

Keys: ${keyNames
  .join(' ')
  .replace(/(.{1,100})( |$)/g, '$1\n      ')
  .trim()}

Examples:
  farbus type desk 'root<enter>'
  farbus type desk '<ctrl-alt-delete>'
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { positionals } = parseOptions('type', args, { allowPositionals: true, options: {} });
  const [name, ...texts] = positionals;
  if (name === undefined || texts.length === 0)
    throw usageError('farbus type NAME TEXT: give a computer and what to type');
  const keys = splitKeys(texts.join(''));
  for (let at = 0; at < keys.length; at += atOnce) {
    await askComputer(
      name,
      { command: 'type', text: keys.slice(at, at + atOnce).join('') },
      { env: io.env, onWorking: tellWaiting(io) },
    );
  }
  return 0;
}
