/** The command that `farbus exec` and `farbus run --exec` pass to the guest's shell. */
import { usageError } from '../../base/errors.js';

/** Maximum length of a program's argument in the guest, in bytes (Linux: MAX_ARG_STRLEN). */
const maxCommand = 128 << 10;

/** @throws FarbusError if the command is too long for the guest */
export function checkCommand(command: string): void {
  const { length } = new TextEncoder().encode(command);
  if (length >= maxCommand) throw usageError(`a command of ${length} bytes is too long for the guest: shorten it`);
}
