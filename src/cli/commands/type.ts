/** `farbus type`: types on the keyboard of a computer. */
import { usageError } from '../../base/errors.js';
import { keyNames, splitKeys } from '../../machine/keys.js';
import { askComputer } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';

/** Maximum keys in one request, because typing takes time. */
const atOnce = 100;

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'type',
  summary: 'type on the keyboard of a running computer',
  usage: ['NAME TEXT...'],
  about: `
    NAME is a computer of farbus run or of a site, as farbus ps shows it. TEXT is typed as it is, with keys in angle brackets: <enter>, <esc>, <f10>,
    <ctrl-c>, <ctrl-alt-delete>; <lt> is "<". Several TEXTs are typed one after the other. The layout is the US one.

    Keys: ${keyNames.join(' ')}`,
  options,
  examples: ["farbus type desk 'root<enter>'", "farbus type desk '<ctrl-alt-delete>'"],
  pages: ['run'],
  operands: [],
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, ...texts] = operands;
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
