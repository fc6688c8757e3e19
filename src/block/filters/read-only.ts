/** Read-only filter: the next device without writes, trims and zeroing. */
import type { BlockInfo } from '../device.js';
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
