/** The last commands that the page has observed, newest first. */
import { Store } from '../base/store.js';
import type { Command } from '../flow/command.js';
import type { ServedCommand } from './contract.js';

/** Number of commands that are kept. */
const most = 500;

export const commandLog = new Store<readonly Command[]>([]);
/** Commands that the server carried out and did not report one by one. */
export const unreported = new Store(0);

const names: Readonly<Record<ServedCommand['operation'], string>> = {
  read: 'read',
  write: 'write',
  flush: 'flush',
  trim: 'trim',
  zeroes: 'write zeroes',
  extents: 'block status',
};

let serial = 0;

export function addCommands(commands: readonly Command[]): void {
  if (commands.length === 0) return;
  commandLog.update((log) => [...[...commands].reverse(), ...log].slice(0, most));
}

/** Commands of a server, in the order in which they ended. */
export function addServed(
  commands: readonly ServedCommand[],
  dropped: number,
  clientName: (of: ServedCommand) => string,
): void {
  unreported.update((count) => count + dropped);
  addCommands(commands.map((one) => fromServer(one, clientName(one))));
}

function fromServer(one: ServedCommand, client: string): Command {
  const key = String(++serial);
  const ranged = one.length > 0;
  return {
    key,
    kind: names[one.operation] ?? one.operation,
    disk: one.export === '' ? '(default)' : one.export,
    client,
    began: one.time,
    offset: ranged ? one.offset : undefined,
    length: one.length,
    ms: undefined,
    parts: { disk: one.ms },
    failed: one.error === '' ? undefined : one.error,
  };
}
