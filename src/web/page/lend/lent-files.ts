/** The files that this tab lends. They are lent until they are stopped or the tab is closed. */
import { lend, type Lending, type LendingState, type LendingUse } from '../../lend/lend.js';
import { pickedDisk } from '../../lend/picked.js';
import { Store } from '../base/store.js';
import { addressOf } from '../state/request.js';
import { currentToken } from '../state/token.js';

export interface LentFile {
  readonly id: number;
  readonly name: string;
  readonly size: number;
  readonly state: LendingState;
  /** A sentence about the state. */
  readonly detail: string;
  readonly use: LendingUse;
}

export const lentFiles = new Store<readonly LentFile[]>([]);

const lendings = new Map<number, Lending>();
let lastId = 0;

function change(id: number, changed: Partial<LentFile>): void {
  lentFiles.update((all) => all.map((one) => (one.id === id ? { ...one, ...changed } : one)));
}

/** Lends a file. Rejects with a FarbusError if the file cannot be lent. */
export async function lendFile(file: File, name: string): Promise<void> {
  const device = await pickedDisk(file);
  const id = ++lastId;
  const use = { requests: 0, errors: 0, bytesRead: 0, bytesWritten: 0 };
  lentFiles.update((all) => [{ id, name, size: file.size, state: 'calling', detail: '', use }, ...all]);
  const lending = lend(device, {
    server: addressOf(''),
    name,
    token: currentToken(),
    onState: (state, detail) => change(id, { state, detail }),
    onUse: (now) => change(id, { use: now }),
  });
  lendings.set(id, lending);
}

export async function stopLending(id: number): Promise<void> {
  await lendings.get(id)?.stop();
  lendings.delete(id);
  lentFiles.update((all) => all.filter((one) => one.id !== id));
}
