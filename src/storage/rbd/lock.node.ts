/**
 * The exclusive lock of an image, which its one writer holds: taking it, taking it over, and who
 * has it. Whoever takes it over has the earlier holder blocklisted by the cluster first, so that
 * nothing lands that this one still had in flight.
 */
import { FarbusError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { LockHolder } from '../../block/writer-lock.js';
import { RBD_LOCK_MODE_EXCLUSIVE, type CephCalls, type Pointer } from '../../linux/ceph.node.js';
import { check } from './check.node.js';
import type { RbdLocation } from './location.js';

const EINVAL = 22;
/** Attempts to take a lock over that other gateways want too. */
const maxTakes = 5;
/** Room for the texts of one kind about the clients that hold locks, in bytes. */
const maxTexts = 4096;

/**
 * Takes the exclusive lock. librbd asks a living holder for it, who refuses; it ends the lock of
 * one that does not answer for the time of its watch (30 s), and has it blocklisted.
 */
export async function lock(calls: CephCalls, image: Pointer, location: RbdLocation, log: Logger): Promise<void> {
  const owner = await calls.lockOwner(image);
  if (owner !== undefined && location.takeover) {
    check(await calls.breakLock(image, RBD_LOCK_MODE_EXCLUSIVE, owner), 'the lock of another client cannot be ended');
    log.log('warn', `${location.shown}: ended the writing of another client (${owner})`);
  }
  const timer = setTimeout(() => {
    log.log('info', `${location.shown}: another client holds the image and does not answer; waiting for up to 30 s`);
  }, 2000);
  const result = await calls.acquireLock(image, RBD_LOCK_MODE_EXCLUSIVE);
  clearTimeout(timer);
  demandFeature(result);
  check(result, 'another client writes to the image: stop it, take over (takeover=1), or open the image read-only');
}

/** Warns a client that only looks of another one that holds the exclusive lock. */
export async function tellOwner(calls: CephCalls, image: Pointer, location: RbdLocation, log: Logger): Promise<void> {
  const owner = await calls.lockOwner(image);
  if (owner === undefined) return;
  const then = location.takeover ? 'a writer ends its writing (takeover=1)' : 'a writer is refused while that runs';
  log.log('warn', `${location.shown}: another client (${owner}) holds it: ${then}`);
}

/** Takes the exclusive lock from whoever has it, alive or not. */
export async function takeLock(calls: CephCalls, image: Pointer, shown: string, log: Logger): Promise<void> {
  let result = 0;
  for (let take = 0; take < maxTakes; take++) {
    const owner = await calls.lockOwner(image);
    // It fails if another gateway was quicker.
    if (owner !== undefined) {
      result = await calls.breakLock(image, RBD_LOCK_MODE_EXCLUSIVE, owner);
      if (result >= 0) log.log('info', `${shown}: taken over from another client (${owner})`);
      else continue;
    }
    result = await calls.acquireLock(image, RBD_LOCK_MODE_EXCLUSIVE);
    demandFeature(result);
    if (result >= 0) return;
  }
  check(result, `${shown}: the image cannot be taken over`);
}

function demandFeature(result: number): void {
  if (result !== -EINVAL) return;
  const advice = 'rbd feature enable POOL/IMAGE exclusive-lock, or open the image read-only';
  throw new FarbusError(`it lacks the feature exclusive-lock, without which two could write: ${advice}`);
}

/**
 * The clients that hold the image's lock, as the cluster says now; undefined if it does not say,
 * for instance because it has blocklisted this client.
 * @param id the image's id
 * @param own the name of this client
 */
export async function lockers(
  calls: CephCalls,
  pool: Pointer,
  id: string,
  own: string,
): Promise<LockHolder[] | undefined> {
  // rbd_list_lockers would tell what the library remembers.
  const of = [pool, `rbd_header.${id}`, 'rbd_lock'];
  const texts = [1, 2, 3, 4].map(() => Buffer.alloc(maxTexts));
  const outputs = texts.flatMap((text) => [text, [BigInt(text.length)]]);
  const count = await calls.listLockers(...of, [0], ...outputs);
  if (count < 0) return undefined;
  const lists = texts.slice(1).map((one) => one.toString('latin1').split('\0'));
  return Array.from({ length: count }, (_, index) => {
    const [client, cookie, address] = lists.map((one) => one[index] ?? '');
    return { own: client === own, client: client!, cookie: cookie!, address: address!.replace(/^v\d:/, '') };
  });
}
