/**
 * A Blob as a read-only block device, in particular a File that the user of a browser has picked.
 *
 * A File is a snapshot: the browser refuses to read it once its file has changed on the disk
 * (File API, "Snapshot state"). So a reader never gets a mixture of old and new bytes. From the
 * first such refusal on, every read fails.
 *
 * Not here: read-ahead, without which short reads are slow (block/filters/readahead.ts); writing
 * (file-handle.ts).
 */
import type { Buffers } from '../base/buffers.js';
import { messageOf } from '../base/errors.js';
import { BlockBase } from '../block/base.js';
import type { BlockInfo } from '../block/device.js';
import { BlockError } from '../block/errors.js';
import type { DiskMarks } from '../block/identity.js';
import { blockInfo } from '../block/info.js';

export interface BlobOptions {
  /** Name of the file, for messages. */
  readonly name: string;
  readonly marks?: DiskMarks | undefined;
}

export class BlobDevice extends BlockBase {
  readonly info: BlockInfo;
  readonly #blob: Blob;
  readonly #name: string;
  #failure: BlockError | undefined;

  constructor(blob: Blob, { name, marks }: BlobOptions) {
    super();
    this.#blob = blob;
    this.#name = name;
    this.info = blockInfo({
      size: blob.size,
      blockSize: 1,
      readOnly: true,
      identity: `picked:${name}`,
      ...(marks && { marks }),
      can: { multiConnection: true },
    });
  }

  protected async doRead(offset: number, into: Buffers): Promise<void> {
    into.copyFrom(await this.load(offset, into.length), 0);
  }

  /** Reads a range into memory of its own. Rejects with a BlockError. */
  async load(offset: number, length: number): Promise<Uint8Array> {
    if (this.#failure) throw this.#failure;
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(await this.#blob.slice(offset, offset + length).arrayBuffer());
    } catch (error) {
      throw (this.#failure ??= unreadable(this.#name, error));
    }
    // Another read may have found the change meanwhile.
    if (this.#failure) throw this.#failure;
    if (bytes.length < length) throw (this.#failure = unreadable(this.#name));
    return bytes;
  }

  protected doWrite(): Promise<void> {
    return Promise.reject(new BlockError('read-only', 'a picked file takes no writes'));
  }

  protected doFlush(): Promise<void> {
    return Promise.resolve();
  }

  protected doClose(): Promise<void> {
    return Promise.resolve();
  }
}

function unreadable(name: string, cause?: unknown): BlockError {
  const said = cause === undefined ? '' : ` (${messageOf(cause)})`;
  const text = `the file ${JSON.stringify(name)} has changed since it was picked, or cannot be read any more: pick it again`;
  return new BlockError('io', `${text}${said}`, { cause });
}
