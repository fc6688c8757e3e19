/**
 * An open image of a Ceph cluster, by librbd. Requests are submitted without waiting; librbd counts
 * their completions in an eventfd, so that no request needs a thread.
 *
 * A writer holds the image's exclusive lock. librbd gives it to another writer only after that one
 * has had this client blocklisted, and then all requests of this client fail.
 */
import type { Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { FarbusError, messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { BlockError } from '../../block/errors.js';
import type { LockHolder } from '../../block/writer-lock.js';
import { cephCalls, EVENT_TYPE_EVENTFD, type CephCalls, type Pointer } from '../../linux/ceph.node.js';
import { createEvent, watchEvent } from '../../linux/event.node.js';
import { check } from './check.node.js';
import type { RbdLocation } from './location.js';
import { lock, lockers, takeLock, tellOwner } from './lock.node.js';

/** Time for the cluster to answer while an image is opened, in seconds. */
const openSeconds = 10;
/** Completions that are taken with one call. */
const batch = 64;
const ESHUTDOWN = 108;

interface Waiting {
  /** Memory of the request, kept from the garbage collector until it has completed. */
  readonly memory: Uint8Array | undefined;
  readonly settle: (result: number) => void;
}

export interface RbdImageOptions {
  /** Open the image to write. */
  readonly writes: boolean;
  /** Take the exclusive lock, which a writer needs. */
  readonly locks: boolean;
  /** How long a request waits for the cluster, in seconds. */
  readonly timeoutSeconds: number;
  /**
   * The image is shared with other gateways: keep no acknowledged write in memory, and report its
   * end with kind `closed`, so that clients go to another gateway.
   */
  readonly shared?: { readonly ended: () => void } | undefined;
  readonly log: Logger;
}

export class RbdImage {
  readonly size: number;
  readonly stripeUnit: number;
  /** Names the image within its pool for as long as it exists, whatever it is renamed to. */
  readonly id: string;
  /** Names the image for all clients of its cluster, at all times. */
  readonly name: string;
  readonly #options: RbdImageOptions;
  readonly #calls: CephCalls;
  readonly #shown: string;
  readonly #cluster: Pointer;
  readonly #pool: Pointer;
  readonly #image: Pointer;
  readonly #event: Socket;
  readonly #waiting = new Map<number, Waiting>();
  /** Set when a change may still take effect, or none ever will: every later request fails. */
  #ended: BlockError | undefined;
  /** Resolves when the latest look for extents is over. */
  #looking: Promise<unknown> = Promise.resolve();
  #tag = 0;

  private constructor(calls: CephCalls, shown: string, open: OpenPointers, facts: Facts, options: RbdImageOptions) {
    [this.#calls, this.#shown, this.#options] = [calls, shown, options];
    [this.#cluster, this.#pool, this.#image] = [open.cluster, open.pool, open.image];
    [this.size, this.stripeUnit, this.id] = [facts.size, facts.stripeUnit, facts.id];
    this.name = facts.name;
    const event = createEvent();
    this.#event = watchEvent(event, () => this.#take());
    calls.setNotification(open.image, event, EVENT_TYPE_EVENTFD);
  }

  /** @throws FarbusError if the image cannot be opened */
  static async open(location: RbdLocation, options: RbdImageOptions): Promise<RbdImage> {
    const { writes, locks, shared } = options;
    const calls = cephCalls();
    const open: Partial<{ -readonly [name in keyof OpenPointers]: Pointer }> = {};
    try {
      open.cluster = await connected(calls, location, options);
      const pool: Pointer[] = [null];
      check(await calls.openPool(open.cluster, location.pool, pool), `there is no pool ${location.pool}`);
      open.pool = pool[0];
      calls.setNamespace(open.pool, location.namespace);
      open.image = await openedImage(calls, open.pool, location, writes);
      if (locks) await lock(calls, open.image, location, options.log);
      else if (writes && !shared) await tellOwner(calls, open.image, location, options.log);
      const facts = await factsOf(calls, open as OpenPointers, location);
      return new RbdImage(calls, location.shown, open as OpenPointers, facts, options);
    } catch (error) {
      await release(calls, open);
      throw new FarbusError(`cannot open ${location.shown}: ${messageOf(error)}`, { cause: error, kind: 'device' });
    }
  }

  /** Reads `into.length` bytes. The memory must not move until the promise settles. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    const read = await this.#submit(into, (done) => this.#calls.read(this.#image, offset, into.length, into, done));
    if (read < into.length) throw new BlockError('io', `${this.#shown}: it ends at byte ${offset + read}`);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    await this.#change(from, (done) => this.#calls.write(this.#image, offset, from.length, from, done));
  }

  async flush(): Promise<void> {
    await this.#change(undefined, (done) => this.#calls.flush(this.#image, done));
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#change(undefined, (done) => this.#calls.discard(this.#image, offset, length, done));
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    await this.#change(undefined, (done) => this.#calls.writeZeroes(this.#image, offset, length, done, flags, 0));
  }

  /** Allocated extents of a range, in order. Adjacent objects are extents of their own. */
  allocated(offset: number, length: number): Promise<{ offset: number; length: number }[]> {
    // Each occupies a thread for as long as the cluster is silent. Node has four, also for files.
    const found = this.#looking.then(() => this.#allocated(offset, length));
    this.#looking = found.catch(() => undefined);
    return found;
  }

  async #allocated(offset: number, length: number): Promise<{ offset: number; length: number }[]> {
    const found: { offset: number; length: number }[] = [];
    const result = await this.#calls.extents(this.#image, offset, length, (at, count, exists) => {
      if (exists) found.push({ offset: at, length: count });
    });
    if (result < 0) throw this.#error(-result);
    return found;
  }

  /** The present length in bytes. */
  async currentSize(): Promise<number> {
    const size: bigint[] = [0n];
    const result = await this.#calls.getSize(this.#image, size);
    if (result < 0) throw this.#error(-result);
    return Number(size[0]);
  }

  /** The reason why every further request fails; undefined if they do not. */
  get ended(): BlockError | undefined {
    return this.#ended;
  }

  /** Takes the exclusive lock from whoever has it. Rejects with a FarbusError. */
  takeLock(): Promise<void> {
    return takeLock(this.#calls, this.#image, this.#shown, this.#options.log);
  }

  /** True if the cluster confirms that this client has the exclusive lock. */
  async hasLock(): Promise<boolean> {
    const owner = [0];
    const result = await this.#calls.isLockOwner(this.#image, owner);
    if (result < 0 || owner[0] !== 1) return false;
    // The call before does not ask the cluster.
    return (await this.#lockers())?.some(({ own }) => own) ?? false;
  }

  /** The holder of the exclusive lock. */
  async holder(): Promise<LockHolder | undefined> {
    const found = await this.#lockers();
    if (!found) throw new BlockError('unreachable', `${this.#shown}: the cluster does not say who holds its lock`);
    return found[0];
  }

  #lockers(): Promise<LockHolder[] | undefined> {
    return lockers(this.#calls, this.#pool, this.id, `client.${this.#calls.instanceId(this.#cluster)}`);
  }

  async close(): Promise<void> {
    // librbd writes to the descriptor until the image is closed.
    await release(this.#calls, { cluster: this.#cluster, pool: this.#pool, image: this.#image });
    this.#event.destroy();
  }

  /** Submits a change. One that was given up may still reach the cluster: it ends the image. */
  async #change(memory: Uint8Array | undefined, begin: (completion: Pointer) => number): Promise<void> {
    try {
      await this.#submit(memory, begin);
    } catch (error) {
      // It must not land on a later one.
      if (error instanceof BlockError && error.kind === 'unreachable') {
        const what = `${this.#shown}: the cluster did not answer in time: open it again`;
        throw this.#end(new BlockError(this.#options.shared ? 'closed' : 'unreachable', what, { cause: error }));
      }
      throw error;
    }
  }

  #submit(memory: Uint8Array | undefined, begin: (completion: Pointer) => number): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#ended) throw this.#ended;
      const completion: Pointer[] = [null];
      const tag = (this.#tag = (this.#tag % 0xffff_ffff) + 1);
      this.#calls.createCompletion(tag, null, completion);
      const settle = (result: number): void => {
        if (result < 0) reject(this.#error(-result));
        else resolve(result);
      };
      this.#waiting.set(tag, { memory, settle });
      const begun = begin(completion[0]);
      if (begun >= 0) return;
      this.#waiting.delete(tag);
      this.#calls.release(completion[0]);
      settle(begun);
    });
  }

  /** Takes the completions that librbd has counted. */
  #take(): void {
    for (;;) {
      const completions: Pointer[] = new Array<Pointer>(batch).fill(null);
      const count = this.#calls.pollEvents(this.#image, completions, batch);
      for (let at = 0; at < count; at++) {
        const completion = completions[at];
        const tag = Number(this.#calls.completionTag(completion));
        const result = Number(this.#calls.completionResult(completion));
        this.#calls.release(completion);
        const waiting = this.#waiting.get(tag);
        this.#waiting.delete(tag);
        waiting?.settle(result);
      }
      if (count < batch) return;
    }
  }

  #end(error: BlockError): BlockError {
    if (this.#ended) return this.#ended;
    this.#ended = error;
    this.#options.shared?.ended();
    return error;
  }

  #error(errno: number): BlockError {
    const code = getSystemErrorName(-errno);
    if (errno === ESHUTDOWN) {
      const what = `${this.#shown}: another client has taken the image over: open it again`;
      return this.#end(new BlockError(this.#options.shared ? 'closed' : 'io', what));
    }
    if (code === 'ETIMEDOUT')
      return new BlockError('unreachable', `${this.#shown}: the cluster did not answer in time`);
    const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'no-space' : 'io';
    return new BlockError(kind, `${this.#shown}: ${code}`);
  }
}

/**
 * Opens the image. A reader opens it as a writer does, if it may: only such an image has a watch,
 * and without one librbd reads zeroes where the image has been shortened. A snapshot cannot change.
 */
async function openedImage(
  calls: CephCalls,
  pool: Pointer,
  { image, snapshot }: RbdLocation,
  writes: boolean,
): Promise<Pointer> {
  const out: Pointer[] = [null];
  const failure = 'there is no such image';
  if (snapshot === undefined) {
    const result = await calls.open(pool, image, out, null);
    const isForbidden = ['EPERM', 'EACCES', 'EROFS'].includes(result < 0 ? getSystemErrorName(result) : '');
    if (writes || !isForbidden) {
      check(result, failure);
      return out[0];
    }
  }
  check(await calls.openReadOnly(pool, image, out, snapshot ?? null), failure);
  return out[0];
}

interface OpenPointers {
  readonly cluster: Pointer;
  readonly pool: Pointer;
  readonly image: Pointer;
}

interface Facts {
  readonly size: number;
  readonly stripeUnit: number;
  readonly id: string;
  readonly name: string;
}

async function connected(
  calls: CephCalls,
  location: RbdLocation,
  { timeoutSeconds, shared }: RbdImageOptions,
): Promise<Pointer> {
  const cluster: Pointer[] = [null];
  check(calls.create(cluster, location.id ?? null), 'out of memory');
  try {
    const { conf, keyring } = location;
    check(calls.readConfig(cluster[0], conf ?? null), `there is no configuration ${conf ?? 'of Ceph (/etc/ceph)'}`);
    if (keyring !== undefined) calls.setConfig(cluster[0], 'keyring', keyring);
    calls.setConfig(cluster[0], 'client_mount_timeout', String(Math.min(openSeconds, timeoutSeconds || 1)));
    calls.setConfig(cluster[0], 'rados_mon_op_timeout', String(Math.max(openSeconds, timeoutSeconds)));
    calls.setConfig(cluster[0], 'rados_osd_op_timeout', String(Math.max(1, timeoutSeconds)));
    if (shared) calls.setConfig(cluster[0], 'rbd_cache', 'false');
    check(await calls.connect(cluster[0]), 'the cluster cannot be reached');
    return cluster[0];
  } catch (error) {
    await calls.shutdown(cluster[0]);
    throw error;
  }
}

async function factsOf(
  calls: CephCalls,
  { cluster, pool, image }: OpenPointers,
  { namespace }: RbdLocation,
): Promise<Facts> {
  const size: bigint[] = [0n];
  const unit: bigint[] = [0n];
  const id = Buffer.alloc(64);
  check(await calls.getSize(image, size), 'its size is unknown');
  check(await calls.getStripeUnit(image, unit), 'its striping is unknown');
  await calls.getId(image, id, id.length);
  const fsid = Buffer.alloc(64);
  calls.clusterId(cluster, fsid, fsid.length);
  const name = `${textOf(fsid)}/${calls.poolId(pool)}/${namespace}/${textOf(id)}`;
  return { size: Number(size[0]), stripeUnit: Number(unit[0]), id: textOf(id), name };
}

async function release(calls: CephCalls, { image, pool, cluster }: Partial<OpenPointers>): Promise<void> {
  if (image) await calls.close(image);
  if (pool) calls.closePool(pool);
  if (cluster) await calls.shutdown(cluster);
}

/** The text in memory of C, up to its NUL. */
function textOf(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/\0.*$/s, '');
}
