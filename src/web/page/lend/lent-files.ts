/** The disks that this tab lends. They are lent until they are stopped or the tab is closed. */
import { lendOpfsDisk } from '../../lend/disk.js';
import { lend, type LendingOptions, type LendingState, type LendingUse } from '../../lend/lend.js';
import { pickedDisk, pickedWritable, type PickedHandle } from '../../lend/picked.js';
import { Store } from '../base/store.js';
import { addressOf } from '../state/request.js';
import { currentToken } from '../state/token.js';

export interface LentFile {
  readonly id: number;
  readonly name: string;
  readonly size: number;
  /** Others may write it. */
  readonly writable: boolean;
  /** The name of the disk in this browser; undefined for a file. */
  readonly disk: string | undefined;
  readonly state: LendingState;
  /** A sentence about the state. */
  readonly detail: string;
  readonly use: LendingUse;
}

export const lentFiles = new Store<readonly LentFile[]>([]);

interface Stoppable {
  stop(): Promise<void>;
}

/** By the entry's id; a disk in this browser takes a while to start. */
const lendings = new Map<number, Promise<Stoppable>>();
let lastId = 0;

function change(id: number, changed: Partial<LentFile>): void {
  lentFiles.update((all) => all.map((one) => (one.id === id ? { ...one, ...changed } : one)));
}

/** True if this tab still uses the disk or file of the entry. */
export function isUsed({ state }: LentFile): boolean {
  return state !== 'refused' && state !== 'stopped';
}

/** Lends a file read-only. Rejects with a FarbusError if it cannot be lent. */
export async function lendFile(file: File, name: string): Promise<void> {
  const device = await pickedDisk(file);
  await add({ name, size: file.size, writable: false, disk: undefined }, (options) => lend(device, options));
}

/** Lends a file writable. Rejects with a FarbusError if it cannot be lent. */
export async function lendWritable(handle: PickedHandle, name: string): Promise<void> {
  const device = await pickedWritable(handle);
  await add({ name, size: device.info.size, writable: true, disk: undefined }, (options) => lend(device, options));
}

/** Lends a disk of this browser. Rejects with a FarbusError if it cannot be lent. */
export async function lendDisk(disk: string, size: number, name: string): Promise<void> {
  await add({ name, size, writable: true, disk }, (options) => lendOpfsDisk(disk, options));
}

async function add(
  facts: Pick<LentFile, 'name' | 'size' | 'writable' | 'disk'>,
  start: (options: LendingOptions) => Promise<Stoppable> | Stoppable,
): Promise<void> {
  const id = ++lastId;
  const use = { requests: 0, errors: 0, bytesRead: 0, bytesWritten: 0 };
  lentFiles.update((all) => [{ id, ...facts, state: 'calling', detail: '', use }, ...all]);
  const options: LendingOptions = {
    server: addressOf(''),
    name: facts.name,
    token: currentToken(),
    onState: (state, detail) => change(id, { state, detail }),
    onUse: (now) => change(id, { use: now }),
  };
  const lending = Promise.resolve(options).then(start);
  lendings.set(id, lending);
  try {
    await lending;
  } catch (error) {
    remove(id);
    throw error;
  }
}

function remove(id: number): void {
  lendings.delete(id);
  lentFiles.update((all) => all.filter((one) => one.id !== id));
}

/** Stops lending, and removes the entry. If that fails, the entry tells the reason. */
export async function stopLending(id: number): Promise<void> {
  try {
    await (await lendings.get(id))?.stop();
  } catch {
    return void lendings.delete(id);
  }
  remove(id);
}
