/**
 * The boot id, which identifies the lifetime of this computer's memory: acknowledged writes that
 * are not flushed survive the end of the server process, but not a restart of the computer.
 */
import { readFileSync } from 'node:fs';

/** Linux's boot id; '' if there is none. With '' callers must assume that the memory is lost. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return '';
  }
}
