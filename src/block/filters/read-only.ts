/** Read-only filter: the next device without writes, trims and zeroing. */
import type { BlockInfo } from '../device.js';
import { defineFilter, parseFlag } from './definition.js';
import { FactsFilter } from './facts.js';

/** The next device without writes, trims and zeroing. */
export class ReadOnlyFilter extends FactsFilter {
  protected override describe(next: BlockInfo): BlockInfo {
    return { ...next, readOnly: true, can: { ...next.can, trim: false, writeZeroes: false } };
  }
}

/** The option; opening the source with it opens it read-only, so no filter is needed. */
export const readOnlyOption = defineFilter({
  options: { 'read-only': { about: 'refuse all writes', parse: parseFlag } },
  sparesSource: (values) => values['read-only'] === true,
});
