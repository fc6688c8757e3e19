/**
 * The parts of librados and librbd that disks need, bound by koffi (rados/librados.h and
 * rbd/librbd.h of Ceph 16 and later). Functions return 0 or a count, or a negative errno. Those
 * that may wait for the cluster run on a thread of koffi.
 *
 * Not here: what a disk is made of (storage/rbd).
 */
import { FarbusError } from '../base/errors.js';
import { requireKoffi, type Koffi } from './koffi.node.js';

/** rbd_image_notification: completions are counted in an eventfd. */
export const EVENT_TYPE_EVENTFD = 2;
export const RBD_LOCK_MODE_EXCLUSIVE = 0;
/** rbd_write_zeroes: the extent stays allocated. */
export const RBD_WRITE_ZEROES_FLAG_THICK_PROVISION = 1;

/** A pointer of the library: a cluster, a pool, an image, a completion. */
export type Pointer = unknown;

type Sync = (...args: unknown[]) => number;
type Waiting = (...args: unknown[]) => Promise<number>;

export interface CephCalls {
  readonly create: (out: Pointer[], id: string | null) => number;
  readonly readConfig: (cluster: Pointer, path: string | null) => number;
  readonly setConfig: (cluster: Pointer, option: string, value: string) => number;
  readonly connect: Waiting;
  readonly shutdown: Waiting;
  readonly openPool: Waiting;
  readonly closePool: (pool: Pointer) => void;
  readonly setNamespace: (pool: Pointer, name: string) => void;
  readonly open: Waiting;
  readonly openReadOnly: Waiting;
  readonly close: Waiting;
  readonly getSize: Waiting;
  readonly getStripeUnit: Waiting;
  readonly getId: Waiting;
  readonly acquireLock: Waiting;
  /** rbd_lock_break: ends the lock of `owner`, and has that client blocklisted. */
  readonly breakLock: Waiting;
  /** rbd_lock_get_owners: the holder of the exclusive lock; undefined if there is none. */
  readonly lockOwner: (image: Pointer) => Promise<string | undefined>;
  readonly isLockOwner: Waiting;
  /**
   * rados_list_lockers: the clients that hold a lock of an object. Lists are of texts that end with
   * NUL.
   */
  readonly listLockers: Waiting;
  readonly poolId: (pool: Pointer) => number;
  /** rados_get_instance_id: this client is "client.ID". */
  readonly instanceId: (cluster: Pointer) => number;
  readonly clusterId: (cluster: Pointer, out: Uint8Array, size: number) => number;
  readonly setNotification: (image: Pointer, fd: number, type: number) => number;
  readonly pollEvents: (image: Pointer, out: Pointer[], count: number) => number;
  readonly createCompletion: (tag: number, callback: null, out: Pointer[]) => number;
  readonly completionTag: (completion: Pointer) => number;
  readonly completionResult: (completion: Pointer) => number;
  readonly release: (completion: Pointer) => void;
  readonly read: Sync;
  readonly write: Sync;
  readonly flush: Sync;
  readonly discard: Sync;
  readonly writeZeroes: Sync;
  /** rbd_diff_iterate2; `each` is called on this thread for each allocated extent. */
  readonly extents: (
    image: Pointer,
    offset: number,
    length: number,
    each: (offset: number, length: number, exists: boolean) => void,
  ) => Promise<number>;
}

let bound: CephCalls | undefined;

/** @throws FarbusError with what to install, if a library is missing */
export function cephCalls(): CephCalls {
  const koffi = requireKoffi('rbd');
  try {
    return (bound ??= bind(koffi));
  } catch (error) {
    throw new FarbusError('rbd: needs the libraries of Ceph: install librbd1 (apt-get install librbd1)', {
      cause: error,
    });
  }
}

function bind(koffi: Koffi): CephCalls {
  const rados = koffi.load('librados.so.2');
  const rbd = koffi.load('librbd.so.1');
  const waiting = (library: typeof rbd, declaration: string): Waiting => {
    const call = library.func(declaration);
    return (...args) =>
      new Promise((resolve, reject) => {
        call.async(...args, (error: unknown, result: unknown) => {
          if (error) reject(error instanceof Error ? error : new Error(String(error)));
          else resolve(Number(result));
        });
      });
  };
  const each = koffi.proto('int farbus_rbd_extent(uint64_t offset, size_t length, int exists, void *)');
  const iterate = waiting(
    rbd,
    'int rbd_diff_iterate2(void *, const char *, uint64_t, uint64_t, uint8_t, uint8_t, farbus_rbd_extent *, void *)',
  );
  const getOwners = waiting(rbd, 'int rbd_lock_get_owners(void *, _Out_ int *, _Out_ void **, _Inout_ size_t *)');
  const freeOwners = rbd.func('void rbd_lock_get_owners_cleanup(void **, size_t)');
  return {
    create: rados.func('int rados_create(_Out_ void **, const char *)') as CephCalls['create'],
    readConfig: rados.func('int rados_conf_read_file(void *, const char *)') as CephCalls['readConfig'],
    setConfig: rados.func('int rados_conf_set(void *, const char *, const char *)') as CephCalls['setConfig'],
    connect: waiting(rados, 'int rados_connect(void *)'),
    shutdown: waiting(rados, 'void rados_shutdown(void *)'),
    openPool: waiting(rados, 'int rados_ioctx_create(void *, const char *, _Out_ void **)'),
    closePool: rados.func('void rados_ioctx_destroy(void *)') as unknown as CephCalls['closePool'],
    setNamespace: rados.func(
      'void rados_ioctx_set_namespace(void *, const char *)',
    ) as unknown as CephCalls['setNamespace'],
    open: waiting(rbd, 'int rbd_open(void *, const char *, _Out_ void **, const char *)'),
    openReadOnly: waiting(rbd, 'int rbd_open_read_only(void *, const char *, _Out_ void **, const char *)'),
    close: waiting(rbd, 'int rbd_close(void *)'),
    getSize: waiting(rbd, 'int rbd_get_size(void *, _Out_ uint64_t *)'),
    getStripeUnit: waiting(rbd, 'int rbd_get_stripe_unit(void *, _Out_ uint64_t *)'),
    getId: waiting(rbd, 'int rbd_get_id(void *, _Out_ char *, size_t)'),
    acquireLock: waiting(rbd, 'int rbd_lock_acquire(void *, int)'),
    breakLock: waiting(rbd, 'int rbd_lock_break(void *, int, const char *)'),
    lockOwner: async (image) => {
      const owners: Pointer[] = [null];
      const result = await getOwners(image, [0], owners, [1n]);
      if (result < 0 || owners[0] === null) return undefined;
      const text = koffi.decode(owners[0], 'char', -1) as string;
      freeOwners(owners, 1);
      return text;
    },
    isLockOwner: waiting(rbd, 'int rbd_is_exclusive_lock_owner(void *, _Out_ int *)'),
    listLockers: waiting(
      rados,
      'int64_t rados_list_lockers(void *, const char *, const char *, _Out_ int *, void *, _Inout_ size_t *, void *, ' +
        '_Inout_ size_t *, void *, _Inout_ size_t *, void *, _Inout_ size_t *)',
    ),
    poolId: rados.func('int64_t rados_ioctx_get_id(void *)') as unknown as CephCalls['poolId'],
    instanceId: rados.func('uint64_t rados_get_instance_id(void *)') as unknown as CephCalls['instanceId'],
    clusterId: rados.func('int rados_cluster_fsid(void *, _Out_ char *, size_t)') as CephCalls['clusterId'],
    setNotification: rbd.func('int rbd_set_image_notification(void *, int, int)') as CephCalls['setNotification'],
    pollEvents: rbd.func('int rbd_poll_io_events(void *, _Out_ void **, int)') as CephCalls['pollEvents'],
    createCompletion: rbd.func(
      'int rbd_aio_create_completion(uintptr_t, void *, _Out_ void **)',
    ) as CephCalls['createCompletion'],
    completionTag: rbd.func('uintptr_t rbd_aio_get_arg(void *)') as CephCalls['completionTag'],
    completionResult: rbd.func('int64_t rbd_aio_get_return_value(void *)') as CephCalls['completionResult'],
    release: rbd.func('void rbd_aio_release(void *)') as unknown as CephCalls['release'],
    read: rbd.func('int rbd_aio_read(void *, uint64_t, size_t, void *, void *)') as Sync,
    write: rbd.func('int rbd_aio_write(void *, uint64_t, size_t, const void *, void *)') as Sync,
    flush: rbd.func('int rbd_aio_flush(void *, void *)') as Sync,
    discard: rbd.func('int rbd_aio_discard(void *, uint64_t, uint64_t, void *)') as Sync,
    writeZeroes: rbd.func('int rbd_aio_write_zeroes(void *, uint64_t, size_t, void *, int, int)') as Sync,
    extents: async (image, offset, length, found) => {
      const callback = koffi.register((at: number, count: number, exists: number) => {
        found(Number(at), Number(count), exists !== 0);
        return 0;
      }, koffi.pointer(each));
      try {
        return await iterate(image, null, offset, length, 1, 1, callback, null);
      } finally {
        koffi.unregister(callback);
      }
    },
  };
}
