/**
 * The real-time clock and its memory: a Motorola MC146818 at I/O ports 0x70 and 0x71. It tells the
 * host's time (UTC) in BCD, and never is within an update.
 *
 * Left out: setting the time, alarms and its interrupt.
 */

/** Reads the byte at an index of the clock's memory. */
export function readCmos(index: number, now: Date): number {
  switch (index) {
    case 0x00:
      return bcd(now.getUTCSeconds());
    case 0x02:
      return bcd(now.getUTCMinutes());
    case 0x04:
      return bcd(now.getUTCHours());
    case 0x06:
      return now.getUTCDay() + 1;
    case 0x07:
      return bcd(now.getUTCDate());
    case 0x08:
      return bcd(now.getUTCMonth() + 1);
    case 0x09:
      return bcd(now.getUTCFullYear() % 100);
    case 0x0a: // 32768 Hz, no update in progress
      return 0x26;
    case 0x0b: // 24 hours, BCD
      return 0x02;
    case 0x0d: // the battery is good
      return 0x80;
    case 0x32: // century, at the place that the FADT names
      return bcd(Math.floor(now.getUTCFullYear() / 100));
    default:
      return 0;
  }
}

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}
