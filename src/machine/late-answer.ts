/**
 * Answers of ATA disks that come so late that the driver may have given the command up.
 *
 * Linux gives a disk's command 30 s. When the first command of a port has taken longer, the driver
 * sends no more, waits until each of the others has ended or has taken 30 s too, and then resets
 * the port. A command that is in flight at the reset is repeated. But a command that has ended
 * between its 30 s and the reset counts as failed, is not repeated, and the file system gets an I/O
 * error, although the disk has done the command. With one command in flight this time is short, but
 * a computer whose process stood still comes back in it. So such an answer waits for the reset. It
 * is delivered after a while if no reset comes: other drivers wait longer.
 *
 * docs/notes/kernel.md, "Time limits of disks", has how this was found.
 */

/** An answer after this time is late. It is a second less than Linux waits. In ms. */
const lateMs = 29_000;
/**
 * The driver has reset the port this long after the last command was issued: after the 30 s of that
 * command, which Linux's timer rounds up by up to 1.5 s. In ms.
 */
const resetMs = 32_000;
/** Shortest wait, for the time between the end of the 30 s and the reset. In ms. */
const leastMs = 3_000;

/**
 * How long an answer waits for a reset, in ms.
 * @param issued When the command was issued, in ms of `performance.now()`, as are the others.
 * @param last When the port's last command was issued.
 */
export function answerDelay(issued: number, last: number, now: number): number {
  if (now - issued < lateMs) return 0;
  return Math.max(last + resetMs - now, leastMs);
}
