/** `farbus token`: makes, lists and revokes tokens of access to the web servers of this user. */
import { FarbusError, usageError } from '../../base/errors.js';
import { parseDuration } from '../../base/format.js';
import { jsonLine, visible } from '../../base/printable.js';
import { consoleId, Tokens, type TokenEntry } from '../../web/server/tokens.node.js';
import { defineCommand } from '../command.js';
import { exitStatus } from '../exit-status.js';
import type { Given, Options } from '../table.js';
import type { CliIo } from '../ui/io.js';

const options = {
  write: {
    brief: 'the token may write the exports, not only read',
    about: 'the token may write the exports; without it, it only reads',
  },
  lend: {
    brief: 'the token only lends, by these names or any',
    about:
      'the token may lend files and disks of a browser, also writable ones, as exports of these names, or of any name ' +
      'without EXPORT, and nothing else',
  },
  expires: { value: 'TIME', default: '30d', about: 'how long it is valid: 30m, 12h, 7d; or never' },
  list: { about: 'list the tokens of exports' },
  revoke: {
    value: 'ID',
    about: 'end a token at once, with its open connections; console: replace the console token by a new one',
  },
  console: { about: 'print the console token, which the address of the console page has' },
  json: { about: 'print JSON: with a new token, its id, exports and end' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'token',
  summary: 'make, list and revoke tokens for farbus serve --web',
  usage: [
    'EXPORT... [--write] [--expires TIME] [--json]',
    '[EXPORT...] --lend [--expires TIME] [--json]',
    '--list [--json]',
    '--revoke ID',
    '--console',
  ],
  about: `
    A token lets a client use exports of farbus serve --web: a browser, or a source nbd+ws://HOST:PORT/EXPORT. It is for
    the exports of these names on every web server of this user, and is printed once: only its hash is kept. A running
    server knows it at once.`,
  options,
  notes: `
    Give the token to a client as a file (nbd+ws://HOST:PORT/EXPORT?token-file=FILE): other users of a computer can read
    command lines.`,
  examples: [
    'farbus token disk.img > disk.token',
    'farbus token system data --write --expires 12h',
    'farbus token --lend boot.iso',
    'farbus token --list',
    'farbus token --revoke 1a2b3c4d',
  ],
  pages: ['web'],
  operands: [],
  run,
});

/** Longest validity besides `never`, in seconds. */
const mostSeconds = 10 * 366 * 86_400;

async function run({ values, operands, given }: Given<typeof options>, io: CliIo): Promise<number> {
  const { write, lend, expires, list, revoke, console: showConsole, json } = values;
  const makes = operands.length > 0 || lend;
  const actions = [makes, list, revoke !== undefined, showConsole].filter(Boolean).length;
  if (actions !== 1) throw usageError('give the EXPORTs of a new token, or one of --list, --revoke ID and --console');
  if (write && lend) throw usageError('--write and --lend are for different tokens: make two');
  if (!makes && (write || given.has('expires'))) {
    throw usageError('--write and --expires are for a new token: name its EXPORTs');
  }
  const seconds = expires === 'never' ? undefined : parseDuration(expires);
  if (expires !== 'never' && (seconds === undefined || seconds <= 0 || seconds > mostSeconds)) {
    throw usageError(`--expires ${expires}: expected a time such as 30m, 12h or 7d, or never`);
  }
  const tokens = await Tokens.open(io.env);
  if (list) {
    const all = tokens.list();
    io.stdout.write(json ? jsonLine(all) : all.map((one) => `${lineOf(one)}\n`).join(''));
  } else if (revoke !== undefined) {
    await tokens.revoke(revoke);
    io.stderr.write(revoke === consoleId ? 'farbus: the console has a new token\n' : `farbus: revoked ${revoke}\n`);
  } else if (showConsole) {
    io.stdout.write(`${tokens.consoleToken}\n`);
  } else {
    const wrong = operands.find((name) => name === '' || name.includes(';token='));
    if (wrong !== undefined) throw new FarbusError(`${JSON.stringify(wrong)} is no name of an export`);
    const { token, entry } = await tokens.make(operands, write, seconds, lend);
    io.stdout.write(json ? jsonLine({ token, ...entry }) : `${token}\n`);
  }
  return exitStatus.done;
}

function lineOf({ id, exports, write, lend, made, expires }: TokenEntry): string {
  const over = expires !== undefined && Date.parse(expires) <= Date.now();
  const end = expires === undefined ? 'never expires' : `${over ? 'expired' : 'expires'} ${expires.slice(0, 16)}Z`;
  const names = exports.length === 0 ? 'any name' : exports.join(' ');
  return visible(
    `${id}  ${lend ? 'lend' : write ? 'read and write' : 'read'}  ${end}, made ${made.slice(0, 16)}Z  ${names}`,
  );
}
