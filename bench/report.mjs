/** Figures for the benchmarks: medians, ratios of pairs, and a description of the machine. */
import { cpus, loadavg, totalmem } from 'node:os';

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** Median of a[i] / b[i], with the least and the greatest: what the noise of the machine was. */
export function ratio(a, b) {
  const ratios = a.map((value, i) => value / b[i]);
  return `${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)})`;
}

export function machineLine() {
  const load = loadavg()[0].toFixed(2);
  return `${cpus().length} × ${cpus()[0].model}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}, load ${load}`;
}
