/**
 * The last commands that the page has observed, newest first. A command of a computer in this tab
 * is observed twice, by the computer and by the server. Then the log has it once, with the times of
 * both.
 */
import { Store } from '../base/store.js';
import type { Command } from '../flow/command.js';
import type { ServedCommand } from './contract.js';

/** Number of commands that are kept. */
const most = 500;
/** The two observations of one command arrive within this time, in ms. */
const pairMs = 2000;

export const commandLog = new Store<readonly Command[]>([]);

const names: Readonly<Record<ServedCommand['operation'], string>> = {
  read: 'read',
  write: 'write',
  flush: 'flush',
  trim: 'trim',
  zeroes: 'write zeroes',
  extents: 'block status',
};

let serial = 0;

/** Commands of a server, in the order in which they ended. */
export function addServed(commands: readonly ServedCommand[], clientName: (of: ServedCommand) => string): void {
  add(commands.map((one) => fromServer(one, clientName(one))));
}

/** Commands of a computer in this tab, in the order in which they ended. */
export function addOwn(commands: readonly Command[]): void {
  add(commands);
}

function add(commands: readonly Command[]): void {
  if (commands.length === 0) return;
  const log = [...commandLog.value];
  for (const one of commands) {
    const at = log.findIndex((other) => isPair(one, other));
    if (at < 0) log.unshift(one);
    else log[at] = joined(one, log[at]!);
  }
  commandLog.set(log.slice(0, most));
}

/** True for the observations of one command by both computers. */
function isPair(one: Command, other: Command): boolean {
  if (one.offset !== other.offset || one.length !== other.length || one.kind !== other.kind) return false;
  const seen = [one, other].filter(({ parts }) => parts.network !== undefined);
  const served = [one, other].filter(({ parts }) => parts.disk !== undefined);
  return (
    seen.length === 1 &&
    served.length === 1 &&
    seen[0] !== served[0] &&
    (seen[0]!.disk === '' || one.disk === other.disk) &&
    Math.abs(one.began - other.began) < pairMs
  );
}

function joined(one: Command, earlier: Command): Command {
  const [own, served] = one.parts.disk === undefined ? [one, earlier] : [earlier, one];
  const disk = served.parts.disk!;
  return {
    ...own,
    // The picture may show the earlier one: it goes on under the same key.
    key: earlier.key,
    disk: served.disk,
    // The server's answer is a part of the way there and back.
    parts: { ...own.parts, disk, network: Math.max(0, own.parts.network! - disk) },
  };
}

function fromServer(one: ServedCommand, client: string): Command {
  return {
    key: `served-${++serial}`,
    kind: names[one.operation] ?? one.operation,
    disk: one.export === '' ? 'default export' : one.export,
    client,
    began: one.time,
    offset: one.length > 0 ? one.offset : undefined,
    length: one.length,
    ms: undefined,
    parts: { disk: one.ms },
    failed: one.error === '' ? undefined : one.error,
  };
}
