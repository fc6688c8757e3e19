/**
 * Prints a guest's output on stdout. If the guest prints faster than the output is read, the guest
 * is held, so output does not accumulate in memory.
 */
import type { Computer } from '../../computer/computer.js';
import type { CliIo } from './io.js';

/** Returns a function that takes the guest's output. */
export function guestOutput(io: CliIo, computer: Computer): (bytes: Uint8Array) => void {
  let waiting = false;
  const goOn = (): void => {
    waiting = false;
    computer.release();
  };
  // Do not wait for output that can no longer be written.
  void io.stdoutFailed?.then(goOn);
  return (bytes) => {
    if (io.stdout.write(bytes) || waiting) return;
    waiting = true;
    computer.hold();
    io.stdout.once('drain', goOn);
  };
}
