/**
 * The one rule, for all our servers, for how long acknowledged but unflushed writes survive. A
 * client that reconnects learns from it whether writes were lost.
 *
 * Writes in the system's page cache outlive this process, so their life is named by the boot id.
 * Writes in the memory of a filter or a connection are lost with the process, so their life gets a
 * new name each time. If it is uncertain, the shorter life is named.
 */
import { randomUUID } from 'node:crypto';
import { holdWrites, type Filters } from './filters.js';
import { plainPath, type Source } from './source-text.js';

/**
 * The name of the life of a source's unflushed writes.
 * @param filters Filters of the command, besides the source's own.
 * @param bootId Name of the page cache's life; '' if unknown.
 */
export function lifeOf(source: Source, filters: Filters, bootId: string): string {
  const all = { ...filters, ...source.filters };
  const inPageCache =
    source.kind === 'disk' && !holdWrites(all) && (all.format ?? 'raw') === 'raw' && plainPath(source) !== undefined;
  return (inPageCache && bootId) || randomUUID();
}
