/**
 * How long acknowledged writes that are not flushed survive, so that a client that comes back can be told of a loss: the
 * one rule for all servers of ours. In the system's page cache they outlive this process, and the name of that life is the
 * boot id; a map, a log or a request in memory ends with the process, and the name is new each time. Where it is not
 * certain, the shorter life is named.
 */
import { randomUUID } from 'node:crypto';
import type { Filters } from './filters.js';
import { parseDrive, plainPath } from './sources.js';

/**
 * Names the life of a source's unflushed writes.
 * @param text SOURCE[,FILTER]..., as it was opened.
 * @param filters Those of the command, besides the text's own.
 * @param bootId The life of the page cache; '' if it is not known.
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
