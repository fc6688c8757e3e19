/** What a guest prints, on stdout. A guest that prints faster than it is read waits, so that nothing piles up here. */
import type { Computer } from '../computer/computer.js';
import type { CliIo } from './io.js';

/** What takes the guest's bytes. */
export function guestOutput(io: CliIo, computer: Computer): (bytes: Uint8Array) => void {
  let waiting = false;
  const goOn = (): void => {
    waiting = false;
    computer.release();
  };
  // What cannot be written any more is not waited for.
  void io.stdoutFailed?.then(goOn);
  return (bytes) => {
    if (io.stdout.write(bytes) || waiting) return;
    waiting = true;
    computer.hold();
    io.stdout.once('drain', goOn);
  };
}
