/**
 * The boot id, which identifies the lifetime of this computer's memory: acknowledged writes that
 * are not flushed survive the end of the server process, but not a restart of the computer.
 */
import { readFile } from 'node:fs/promises';

/** Linux's boot id; '' if there is none. With '' callers must assume that the memory is lost. */
export async function bootId(): Promise<string> {
  return readFile('/proc/sys/kernel/random/boot_id', 'ascii').then(
    (text) => text.trim(),
    () => '',
  );
}
