/**
 * Base class of filters that only report other facts about the next device: all requests, direct
 * access and file ranges pass through unchanged.
 */
import type { DirectAccess, FileRanges } from '../direct.js';
import { Filter } from './filter.js';

export abstract class FactsFilter extends Filter {
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
}
