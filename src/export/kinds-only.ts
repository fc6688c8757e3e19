/**
 * Replaces the texts of a device's errors by their kinds, for a client that has shown a token: a
 * text can name paths and addresses of the server's side.
 */
import type { DirectAccess, FileRanges } from '../block/direct.js';
import type { BlockDevice } from '../block/device.js';
import { BlockError, blockErrorOf } from '../block/errors.js';
import { Filter, type BlockRequest } from '../block/filters/filter.js';

export class KindsOnly extends Filter {
  protected override readonly keepsNothing = true;
  readonly #failed: (error: unknown) => void;

  /** @param failed Receives each error with its text. */
  constructor(next: BlockDevice, failed: (error: unknown) => void) {
    super(next);
    this.#failed = failed;
  }

  protected override get follows(): boolean {
    return true;
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    return this.next.direct;
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    return this.next.files;
  }

  protected override async around<T>(_request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    try {
      return await pass();
    } catch (error) {
      const { kind } = blockErrorOf(error);
      // The client itself has given the request up.
      if (kind !== 'aborted') this.#failed(error);
      throw new BlockError(kind, `the disk has failed: ${kind}`);
    }
  }
}
