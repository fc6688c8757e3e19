/**
 * What names the life of this computer's memory: writes that were acknowledged and not flushed survive the end of the
 * server process, not that of the machine.
 */
import { readFile } from 'node:fs/promises';

/** Linux's boot id; '' where there is none, which promises nothing. */
export async function bootId(): Promise<string> {
  return readFile('/proc/sys/kernel/random/boot_id', 'ascii').then(
    (text) => text.trim(),
    () => '',
  );
}
