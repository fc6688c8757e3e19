/** Read-only filter: the next device without writes, trims and zeroing. */
import type { BlockInfo } from '../device.js';
import { defineFilter, parseFlag } from './definition.js';
import type { DirectAccess, FileRanges } from '../direct.js';
import { Filter } from './filter.js';

export class ReadOnlyFilter extends Filter {
  protected override readonly keepsNothing = true;

  protected override get follows(): boolean {
    return true;
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    return this.next.direct;
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    return this.next.files;
  }

  protected override describe(next: BlockInfo): BlockInfo {
    return { ...next, readOnly: true, can: { ...next.can, trim: false, writeZeroes: false } };
  }
}

/** The option; opening the source with it opens it read-only, so no filter is needed. */
export const readOnlyOption = defineFilter({
  options: { 'read-only': { about: 'refuse all writes', parse: parseFlag } },
  sparesSource: (values) => values['read-only'] === true,
});
