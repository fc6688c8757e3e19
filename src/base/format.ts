/** Numbers as people read them, and back. */

/** "1.5 MiB", "512 B": a count of bytes with a binary unit. */
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

/** "0.42 ms", "3.1 s": a duration given in ms. */
export function formatMs(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}

/**
 * Parses "128M", "64KiB", "4096": bytes with an optional binary unit (K, M, G, T; "B" and "iB" may follow).
 * @returns undefined where it is not such a number.
 */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  if (!match) return undefined;
  const value = Number(match[1]) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf(match[2]!.toUpperCase());
  return Number.isSafeInteger(value) ? value : undefined;
}
