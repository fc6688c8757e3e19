/**
 * An object on an HTTP server as a read-only block device. Long reads are split into ranges that
 * are requested in parallel.
 */
import { hexOf } from '../../base/hex.js';
import type { Buffers } from '../../base/buffers.js';
import { BlockBase } from '../../block/base.js';
import type { BlockInfo, RequestOptions } from '../../block/device.js';
import { BlockError, closedError } from '../../block/errors.js';
import { inParallel } from '../../block/filters/parallel.js';
import type { DiskMarks } from '../../block/identity.js';
import { HttpObject, type HttpObjectOptions } from './object.js';

/** Longest range of one request, in bytes: longer ones are read in parallel. */
const rangeSize = 256 << 10;
/**
 * The same for a near server, where each request costs more than its wait. Measured with nginx on
 * loopback: 1.06 instead of 1.53 ms of processor time for each MiB.
 */
const nearRangeSize = 1 << 20;

/** How long closing waits for reads in flight, in ms. */
const closeMs = 4000;

export class HttpDisk extends BlockBase {
  readonly info: BlockInfo;
  readonly #object: HttpObject;
  #isStopped = false;

  private constructor(object: HttpObject, identity: string, marks: DiskMarks) {
    super();
    this.#object = object;
    this.info = {
      size: object.version.size,
      blockSize: 1,
      preferredSize: 4096,
      maxTransfer: 32 << 20,
      readOnly: true,
      removable: false,
      rotational: false,
      identity,
      marks,
      can: { flush: false, fua: false, trim: false, writeZeroes: false, extents: false, multiConnection: true },
    };
  }

  /** @throws BlockError if the object cannot be read by ranges */
  static async open(options: HttpObjectOptions, signal?: AbortSignal): Promise<HttpDisk> {
    const object = await HttpObject.open(options, signal);
    const { tag, date } = object.version;
    if (tag === undefined && date === undefined) {
      const what = `${options.shown}: the server tells neither an entity tag nor a date of the object`;
      options.log.log('warn', `${what}, so a change while it is in use may not be noticed`);
    }
    const name = await hashOf(options.url.replace(/\?.*/s, ''));
    const version = tag ?? date;
    // A version is a disk of its own: what was made on top of it fits no other one.
    const marks = version === undefined ? {} : { layer: `http:${await hashOf(`${name} ${version}`)}` };
    return new HttpDisk(object, `http:${name}`, marks);
  }

  /** True if a request to the server costs more than its wait. */
  get isNear(): boolean {
    return this.#object.isNear;
  }

  protected async doRead(offset: number, into: Buffers, { signal }: RequestOptions): Promise<void> {
    const jobs: (() => Promise<void>)[] = [];
    const step = this.isNear ? nearRangeSize : rangeSize;
    for (let at = 0; at < into.length; at += step) {
      const part = into.slice(at, Math.min(into.length, at + step));
      jobs.push(() => this.#object.read(offset + at, part, signal));
    }
    try {
      await inParallel(jobs);
    } catch (error) {
      if (this.#isStopped) throw closedError();
      throw error;
    }
  }

  protected doWrite(): Promise<void> {
    return Promise.reject(new BlockError('read-only', 'objects on HTTP servers are read-only'));
  }

  protected async doFlush(): Promise<void> {}

  override close(): Promise<void> {
    const stop = (): void => {
      this.#isStopped = true;
      this.#object.stop();
    };
    const timer = setTimeout(stop, closeMs);
    return super.close().finally(() => clearTimeout(timer));
  }

  protected doClose(): Promise<void> {
    return this.#object.close();
  }
}

/** 128 bits of the SHA-256 of a text, in hexadecimal. */
async function hashOf(text: string): Promise<string> {
  // Browsers offer it to pages of https and localhost only. The text is as good, but longer.
  if ((crypto as Partial<Crypto>).subtle === undefined) return text;
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return hexOf(new Uint8Array(hash, 0, 16));
}
