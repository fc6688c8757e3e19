/** Read-only filter: the next device without writes, trims and zeroing. */
import type { BlockInfo } from '../device.js';
import { Filter } from './filter.js';

export class ReadOnlyFilter extends Filter {
  protected override readonly keepsNothing = true;

  protected override get follows(): boolean {
    return true;
  }

  protected override describe(next: BlockInfo): BlockInfo {
    return { ...next, readOnly: true, can: { ...next.can, trim: false, writeZeroes: false } };
  }
}
