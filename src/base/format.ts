/** Formats byte counts and durations for people, and parses byte counts that people write. */

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

/** A duration, given in ms: "0.42 ms", "3.1 s". */
export function formatMs(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
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
