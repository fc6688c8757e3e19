/**
 * The one rule, for all our servers, for how long acknowledged but unflushed writes survive. A
 * client that reconnects learns from it whether writes were lost.
 *
 * Writes in the system's page cache outlive this process, so their life is named by the boot id.
 * Writes in the memory of a filter or a connection are lost with the process, so their life gets a
 * new name each time. If it is uncertain, the shorter life is named.
 */
import { randomUUID } from 'node:crypto';
import type { Filters } from './filters.js';
import { parseDrive, plainPath } from './sources.js';

/**
 * The name of the life of a source's unflushed writes.
 * @param text SOURCE[,FILTER]..., as opened.
 * @param filters Filters of the command, besides those in the text.
 * @param bootId Name of the page cache's life; '' if unknown.
 */
export function lifeOf(text: string, filters: Filters, bootId: string): string {
  const drive = parseDrive(text);
  const all = { ...filters, ...drive.filters };
  const inPageCache =
    drive.kind === 'disk' &&
    all.overlay === undefined &&
    all.cache === undefined &&
    (all.format ?? 'raw') === 'raw' &&
    plainPath(drive.source) !== undefined;
  return (inPageCache && bootId) || randomUUID();
}
