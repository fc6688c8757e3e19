/**
 * The real-time clock and its memory: a Motorola MC146818 at I/O ports 0x70 and 0x71. It tells the
 * host's time (UTC) in BCD, and never is within an update.
 *
 * Left out: setting the time, alarms and its interrupt.
 */

/** Sizes of memory, in units of 64 KiB. */
export interface MemorySizes {
  /** From 16 MiB up to 4 GiB. */
  readonly low: number;
  /** Above 4 GiB. */
  readonly high: number;
}

/**
 * Reads the byte at an index of the clock's memory. The sizes of memory are where QEMU's firmware
 * expects them (OVMF: PlatformGetSystemMemorySizeBelow4gb).
 */
export function readCmos(index: number, now: Date, { low, high }: MemorySizes): number {
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
    case 0x34:
      return low & 0xff;
    case 0x35:
      return low >> 8;
    case 0x5b:
      return high & 0xff;
    case 0x5c:
      return (high >> 8) & 0xff;
    case 0x5d:
      return high >> 16;
    case 0x32: // century, at the place that the FADT names
      return bcd(Math.floor(now.getUTCFullYear() / 100));
    default:
      return 0;
  }
}

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}
