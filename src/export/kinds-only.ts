/**
 * Replaces the texts of a device's errors by their kinds, for a client that has shown a token: a
 * text can name paths and addresses of the server's side.
 */
import type { DirectAccess, FileRanges } from '../block/direct.js';
import type { BlockDevice } from '../block/device.js';
import { BlockError, blockErrorOf } from '../block/errors.js';
import { Filter, type BlockRequest } from '../block/filters/filter.js';

/** Receives each error with its text. */
export type OnError = (error: unknown) => void;

/** The error that a client with a token gets instead. */
export function kindOnly(error: unknown, failed: OnError): BlockError {
  const { kind } = blockErrorOf(error);
  // The client itself has given the request up.
  if (kind !== 'aborted') failed(error);
  return new BlockError(kind, `the disk has failed: ${kind}`);
}

export class KindsOnly extends Filter {
  protected override readonly keepsNothing = true;
  readonly #failed: OnError;

  constructor(next: BlockDevice, failed: OnError) {
    super(next);
    this.#failed = failed;
  }

  protected override get follows(): boolean {
    return true;
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    return (
      direct && {
        read: (offset, into) => this.#guarded(() => direct.read(offset, into)),
        write: (offset, from) => this.#guarded(() => direct.write(offset, from)),
      }
    );
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    const { files } = this.next;
    return files && { resident: (offset, length) => this.#guarded(() => files.resident(offset, length)) };
  }

  protected override async around<T>(_request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    try {
      return await pass();
    } catch (error) {
      throw kindOnly(error, this.#failed);
    }
  }

  #guarded<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      throw kindOnly(error, this.#failed);
    }
  }
}
