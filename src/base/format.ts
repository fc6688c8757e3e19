/** Formats byte counts and durations for people, and parses those that people write. */

/** A count of bytes with a binary unit: "1.5 MiB", "512 B". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]!}`;
}

/** A duration, given in ms: "0.004 ms", "0.42 ms", "3.1 s". */
export function formatMs(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms.toFixed(ms >= 10 ? 1 : ms >= 0.01 ? 2 : 3)} ms`;
}

/** A duration, given in whole seconds, in its two largest units: "3 d 2 h", "7 min", "0 s". */
export function formatSeconds(seconds: number): string {
  const parts = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
    seconds % 60,
  ];
  const units = ['d', 'h', 'min', 's'];
  const first = parts.findIndex((part) => part > 0);
  if (first < 0) return '0 s';
  return [first, first + 1]
    .filter((at) => at < 4)
    .map((at) => `${parts[at]!} ${units[at]!}`)
    .join(' ');
}

/**
 * Parses a count of bytes with an optional binary unit (K, M, G, T, each optionally followed by "B"
 * or "iB"): "128M", "64KiB", "4096".
 * @returns undefined if `text` is not such a number
 */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  if (!match) return undefined;
  const value = Number(match[1]) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf(match[2]!.toUpperCase());
  return Number.isSafeInteger(value) ? value : undefined;
}

/**
 * Parses a duration with a unit: "30s", "15m", "12h", "7d".
 * @returns seconds; undefined if `text` is not such a duration
 */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})([smhd])$/.exec(text.trim());
  if (!match) return undefined;
  return Number(match[1]) * { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] as 's' | 'm' | 'h' | 'd'];
}

/** The largest whole number of MiB in a count of bytes, in bytes. */
export function wholeMiB(bytes: number): number {
  return Math.floor(bytes / 2 ** 20) * 2 ** 20;
}
