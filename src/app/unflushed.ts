/**
 * The one rule, for all our servers, for how long acknowledged but unflushed writes survive. A
 * client that reconnects learns from it whether writes were lost.
 *
 * The rule names the memory that holds the writes. Another name means that they were lost. The
 * system's page cache outlives this process, so its name is the boot id. The memory of a filter or
 * a connection is lost with the process, so it gets a new name each time. If it is uncertain which
 * of the two holds the writes, it gets a new name too.
 */
import { randomUUID } from 'node:crypto';
import { holdWrites, type Filters } from './filters.js';
import { plainPath, type Source } from './source-text.js';

/**
 * The name of the memory that holds a source's unflushed writes.
 * @param filters Filters of the command, besides the source's own.
 * @param bootId Name of the page cache; '' if unknown.
 */
export function memoryOf(source: Source, filters: Filters, bootId: string): string {
  const all = { ...filters, ...source.filters };
  const inPageCache =
    source.kind === 'disk' && !holdWrites(all) && (all.format ?? 'raw') === 'raw' && plainPath(source) !== undefined;
  return (inPageCache && bootId) || memoryOfProcess();
}

/** A new name, for memory that is lost with this process. */
export function memoryOfProcess(): string {
  return randomUUID();
}
