/**
 * A file that the user of a browser has picked for writing (File System Access API) as a block
 * device.
 *
 * A browser writes such a file as a whole: it copies the file, changes the copy, and puts it in the
 * place of the file when the copy is closed. So writes are kept in memory until a flush, which does
 * that once for all of them. If the page ends before the flush, the file is as it was after the
 * last one.
 *
 * If another program changes the file meanwhile, reads and flushes fail: bytes of two versions are
 * never mixed.
 */
import type { Buffers } from '../base/buffers.js';
import { messageOf } from '../base/errors.js';
import { BlockBase } from '../block/base.js';
import type { BlockInfo } from '../block/device.js';
import { BlockError } from '../block/errors.js';
import { blockInfo } from '../block/info.js';

/** The part of a browser's FileSystemFileHandle that is used. */
export interface WritableHandle {
  /** The file's name without its folder. */
  readonly name: string;
  /** The file as it is now. */
  getFile(): Promise<File>;
  /** Makes a copy of the file, which takes its place when the writer is closed. */
  createWritable(options: { keepExistingData: boolean }): Promise<HandleWriter>;
}

/** The part of a browser's FileSystemWritableFileStream that is used. */
export interface HandleWriter {
  /** Changes the copy. */
  write(part: { type: 'write'; position: number; data: Uint8Array<ArrayBuffer> }): Promise<void>;
  /** Puts the copy in the place of the file. */
  close(): Promise<void>;
  /** Removes the copy. */
  abort(): Promise<void>;
}

/** Writes are kept in pieces of this length, in bytes. */
const pieceSize = 1 << 16;
/** If more unflushed bytes are in memory, a write waits until they are in the file. */
const maxUnflushed = 64 << 20;

type Pieces = Map<number, Uint8Array<ArrayBuffer>>;

export class FileHandleDevice extends BlockBase {
  readonly info: BlockInfo;
  readonly #handle: WritableHandle;
  #file: File;
  /** Written since the last flush. A flush that has ended replaces the map. */
  #written: Pieces = new Map();
  /** The latest change of the pieces or the file; the next one waits for it. */
  #turn: Promise<unknown> = Promise.resolve();
  #committing: Promise<void> | undefined;
  #failure: BlockError | undefined;

  private constructor(handle: WritableHandle, file: File) {
    super();
    this.#handle = handle;
    this.#file = file;
    this.info = blockInfo({
      size: file.size - (file.size % 512),
      tail: file.size % 512,
      identity: `picked:${file.name}`,
      can: { flush: true },
    });
  }

  /** The user must have allowed writing. Rejects with a BlockError if the file cannot be read. */
  static async open(handle: WritableHandle): Promise<FileHandleDevice> {
    try {
      return new FileHandleDevice(handle, await handle.getFile());
    } catch (error) {
      throw new BlockError('io', `the file ${JSON.stringify(handle.name)} cannot be read: ${messageOf(error)}`);
    }
  }

  protected async doRead(offset: number, into: Buffers): Promise<void> {
    const { bytes, written } = await this.#fromFile(offset, into.length);
    for (const { number, at, from, length } of parts(offset, into.length)) {
      const piece = written.get(number);
      if (piece) bytes.set(piece.subarray(at, at + length), from);
    }
    into.copyFrom(bytes, 0);
  }

  protected doWrite(offset: number, from: Buffers): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#written.size * pieceSize >= maxUnflushed) await this.#commit();
      for (const { number, at, from: start, length } of parts(offset, from.length)) {
        const piece = this.#written.get(number) ?? (await this.#piece(number));
        const data = new Uint8Array(length);
        from.copyTo(data, start);
        piece.set(data, at);
        this.#written.set(number, piece);
      }
    });
  }

  protected doFlush(): Promise<void> {
    return this.#inTurn(() => this.#commit());
  }

  protected doClose(): Promise<void> {
    return this.#inTurn(() => this.#commit());
  }

  /** The content of a piece in the file. */
  async #piece(number: number): Promise<Uint8Array<ArrayBuffer>> {
    const start = number * pieceSize;
    return (await this.#fromFile(start, Math.min(pieceSize, this.info.size - start))).bytes;
  }

  /** Bytes of the file, and the pieces that were written since that version of it. */
  async #fromFile(offset: number, length: number): Promise<{ bytes: Uint8Array<ArrayBuffer>; written: Pieces }> {
    for (;;) {
      if (this.#failure) throw this.#failure;
      const [file, written] = [this.#file, this.#written];
      let failure: unknown;
      try {
        const bytes = new Uint8Array(await file.slice(offset, offset + length).arrayBuffer());
        if (bytes.length === length) return { bytes, written };
      } catch (error) {
        failure = error;
      }
      // A flush of ours has replaced the file, or is about to.
      if (this.#committing) await this.#committing.catch(() => undefined);
      else if (file === this.#file) throw this.#changed(failure);
    }
  }

  #commit(): Promise<void> {
    const work = this.#putAll();
    this.#committing = work;
    return work.finally(() => (this.#committing = undefined));
  }

  /** Puts all writes into the file. If that fails, they stay in memory for the next flush. */
  async #putAll(): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#written.size === 0) return;
    let writer: HandleWriter | undefined;
    try {
      writer = await this.#handle.createWritable({ keepExistingData: true });
      for (const [number, data] of this.#written) {
        await writer.write({ type: 'write', position: number * pieceSize, data });
      }
      // As late as possible: the copy takes the place of what others have written meanwhile.
      const { size, lastModified } = await this.#handle.getFile();
      if (size !== this.#file.size || lastModified !== this.#file.lastModified) throw this.#changed();
      await writer.close();
      this.#file = await this.#handle.getFile();
      this.#written = new Map();
    } catch (error) {
      await writer?.abort().catch(() => undefined);
      throw this.#writeError(error);
    }
  }

  #writeError(error: unknown): BlockError {
    if (error instanceof BlockError) return error;
    const kind = (error as { name?: unknown } | null)?.name === 'QuotaExceededError' ? 'no-space' : 'io';
    const text = `the file ${JSON.stringify(this.#handle.name)} cannot be written: ${messageOf(error)}`;
    return new BlockError(kind, text, { cause: error });
  }

  #changed(cause?: unknown): BlockError {
    const name = JSON.stringify(this.#handle.name);
    const text = `the file ${name} was changed by another program, or cannot be read any more: pick it again`;
    return (this.#failure ??= new BlockError('io', text, { cause }));
  }

  /** Runs a change after those before it. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** A range, split at the ends of pieces. */
function* parts(offset: number, length: number) {
  for (let from = 0; from < length;) {
    const at = (offset + from) % pieceSize;
    const count = Math.min(length - from, pieceSize - at);
    yield { number: Math.floor((offset + from) / pieceSize), at, from, length: count };
    from += count;
  }
}
