/**
 * System calls on files and block devices that Node lacks: fallocate(2), lseek(2) with SEEK_DATA
 * and SEEK_HOLE, ioctl(2) of block devices (linux/fs.h), flock(2), preadv2(2), mincore(2), and
 * pread(2) and pwrite(2) on the caller's thread. Calls that may wait for a disk run on a thread of
 * koffi.
 *
 * Not here: io_uring (io-uring.node.ts).
 */
import { bindOnce, type Koffi } from './koffi.node.js';
import { systemError } from './system-error.node.js';

/** fallocate(2): the file keeps its length. */
export const FALLOC_FL_KEEP_SIZE = 0x01;
/**
 * fallocate(2): frees the range's blocks; it then reads as zeroes. Only together with
 * FALLOC_FL_KEEP_SIZE.
 */
export const FALLOC_FL_PUNCH_HOLE = 0x02;
/** fallocate(2): the range reads as zeroes and keeps its blocks. */
export const FALLOC_FL_ZERO_RANGE = 0x10;

/** lseek(2). */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** ioctl(2) requests of linux/fs.h, with their numbers on x86-64 and arm64. */
export const BLKROGET = 0x125e;
export const BLKSSZGET = 0x1268;
export const BLKDISCARD = 0x1277;
export const BLKGETSIZE64 = 0x80081272;
export const BLKGETDISKSEQ = 0x80081280;

/**
 * Most calls on threads at once; others wait. koffi itself refuses more than 256 (its setting
 * max_async_calls).
 */
const maxCalls = 128;

/** flock(2): LOCK_EX | LOCK_NB, an exclusive lock; fails instead of waiting. */
const LOCK_EX_NB = 0x02 | 0x04;

export interface FileCalls {
  /**
   * fallocate(2). Offset and length in bytes. Rejects with an error that has an errno `code`, as
   * all these calls do.
   */
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void>;
  /**
   * lseek(2): offset of the next data or hole from `offset` on; undefined if there is none before
   * the file's end (ENXIO).
   */
  seek(fd: number, offset: number, whence: typeof SEEK_DATA | typeof SEEK_HOLE): Promise<number | undefined>;
  /**
   * ioctl(2). `argument` is the memory to which the request's pointer points, in native byte order;
   * read and written in place.
   */
  ioctl(fd: number, request: number, argument: Uint8Array): Promise<void>;
  /** ioctl(2) whose argument is a number instead of a pointer; resolves with its result. */
  control(fd: number, request: number, value: number): Promise<number>;
  /** BLKGETSIZE64: the device's length in bytes. */
  deviceSize(fd: number): Promise<number>;
  /**
   * BLKGETDISKSEQ on the caller's thread; it does not wait. Undefined if the kernel lacks it
   * (before Linux 5.15).
   */
  diskSequence(fd: number): number | undefined;
  /**
   * preadv2(2) with RWF_NOWAIT on the caller's thread: reads only bytes that need no disk.
   * @returns the number of bytes read; 0 if none is in the page cache, or for an error, which a
   * normal read will report; undefined if the file system does not support RWF_NOWAIT
   */
  readCached(fd: number, into: Uint8Array, offset: number): number | undefined;
  /**
   * True if a range of a regular file is fully resident in the page cache (mincore(2) on a
   * temporary mapping).
   */
  resident(fd: number, offset: number, length: number): boolean;
  /**
   * pread(2) on the caller's thread, for file systems in memory. Returns the number of bytes read;
   * -1 for any error.
   */
  readHere(fd: number, into: Uint8Array, offset: number): number;
  /** pwrite(2) on the caller's thread. Returns the number of bytes written; -1 for any error. */
  writeHere(fd: number, from: Uint8Array, offset: number): number;
  /**
   * flock(2): locks the open file exclusively. Rejects with EWOULDBLOCK (EAGAIN) if it is locked
   * already.
   */
  lock(fd: number): Promise<void>;
}

/** preadv2(2): fail instead of waiting for a disk. */
const RWF_NOWAIT = 0x08;

/** A C function as koffi provides it; `async` runs it on a thread. */
interface Callable {
  async(...args: unknown[]): void;
}

/** mmap(2). */
const PROT_READ = 1;
const MAP_SHARED = 1;
const mapFailed = 0xffff_ffff_ffff_ffffn;
/**
 * Smallest page size of any system, in bytes. With larger pages the mapping fails, or more pages
 * are checked than necessary.
 */
const pageSize = 4096;
/**
 * Most pages that one check for residency covers: 32 MiB, and one page for an offset within a page.
 */
const maxPages = (32 << 20) / pageSize + 1;

/** The calls; undefined if they are not available. */
export const fileCalls: () => FileCalls | undefined = bindOnce(bind);

function bind(koffi: Koffi): FileCalls {
  const library = koffi.load(null);
  const fallocate: Callable = library.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  const lseek: Callable = library.func('int64_t lseek(int fd, int64_t offset, int whence)');
  const ioctl: Callable = library.func('int ioctl(int fd, unsigned long request, void *argument)');
  const control: Callable = library.func('ioctl', 'int', ['int', 'ulong', 'long']);
  const ask = library.func('ioctl', 'int', ['int', 'ulong', 'void *']) as (
    fd: number,
    request: number,
    argument: BigUint64Array,
  ) => number;
  const flock: Callable = library.func('int flock(int fd, int operation)');

  const preadv2 = library.func('int64_t preadv2(int fd, void *vector, int count, int64_t offset, int flags)') as (
    fd: number,
    vector: BigUint64Array,
    count: number,
    offset: number,
    flags: number,
  ) => number;
  type Transfer = (fd: number, bytes: Uint8Array, length: number, offset: number) => number;
  const pread = library.func('int64_t pread(int fd, void *buffer, size_t length, int64_t offset)') as Transfer;
  const pwrite = library.func('int64_t pwrite(int fd, void *buffer, size_t length, int64_t offset)') as Transfer;
  const mmap = library.func(
    'void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)',
  ) as (...args: unknown[]) => unknown;
  const munmap = library.func('int munmap(void *at, size_t length)') as (at: unknown, length: number) => number;
  const mincore = library.func('int mincore(void *at, size_t length, void *vector)') as (
    at: unknown,
    length: number,
    vector: Uint8Array,
  ) => number;
  /** The result of mincore(2), one byte for each page. */
  const pages = new Uint8Array(maxPages);
  /**
   * A struct iovec: address and length. It is valid during one call, while the caller holds the
   * memory.
   */
  const vector = new BigUint64Array(2);
  const { EOPNOTSUPP, ENOSYS, EINVAL } = koffi.os.errno;

  let running = 0;
  const waiting: (() => void)[] = [];
  /**
   * Runs a call on a thread. `pinned` is the memory to which its arguments point. It is referenced
   * until the call has ended, because an address in koffi does not keep its buffer alive: the heap
   * would be corrupted (docs/notes/sockets.md, "Pinned buffers").
   */
  const call = async (name: string, fn: Callable, args: readonly unknown[], pinned?: Uint8Array): Promise<number> => {
    if (running >= maxCalls) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    return new Promise((resolve, reject) => {
      const held = new Set([pinned]);
      fn.async(...args, (error: unknown, result: number) => {
        // The thread's errno is available in this callback only.
        const errno = koffi.errno();
        held.clear();
        const next = waiting.shift();
        if (next) next();
        else running--;
        if (error) reject(error as Error);
        else if (result < 0 && errno === koffi.os.errno['EINTR']) resolve(call(name, fn, args, pinned));
        else if (result < 0) reject(systemError(name, errno));
        else resolve(result);
      });
    });
  };

  return {
    fallocate: async (fd, mode, offset, length) =>
      void (await call('fallocate', fallocate, [fd, mode, offset, length])),
    seek: (fd, offset, whence) =>
      call('lseek', lseek, [fd, offset, whence]).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENXIO') return undefined;
        throw error;
      }),
    ioctl: async (fd, request, argument) => void (await call('ioctl', ioctl, [fd, request, argument], argument)),
    control: (fd, request, value) => call('ioctl', control, [fd, request, value]),
    deviceSize: async (fd) => {
      const size = new BigUint64Array(1);
      const bytes = new Uint8Array(size.buffer);
      await call('ioctl', ioctl, [fd, BLKGETSIZE64, bytes], bytes);
      return Number(size[0]);
    },
    diskSequence: (fd) => {
      const sequence = new BigUint64Array(1);
      return ask(fd, BLKGETDISKSEQ, sequence) < 0 ? undefined : Number(sequence[0]);
    },
    readCached: (fd, into, offset) => {
      vector[0] = koffi.address(into);
      vector[1] = BigInt(into.length);
      const read = preadv2(fd, vector, 1, offset, RWF_NOWAIT);
      if (read >= 0) return Number(read);
      const errno = koffi.errno();
      return errno === EOPNOTSUPP || errno === ENOSYS || errno === EINVAL ? undefined : 0;
    },
    resident: (fd, offset, length) => {
      const from = offset - (offset % pageSize);
      const span = offset + length - from;
      const count = Math.ceil(span / pageSize);
      if (length === 0 || count > maxPages) return false;
      const at = mmap(null, span, PROT_READ, MAP_SHARED, fd, from);
      if (at === null || koffi.address(at) === mapFailed) return false;
      const result = mincore(at, span, pages);
      munmap(at, span);
      if (result !== 0) return false;
      for (let page = 0; page < count; page++) if (!(pages[page]! & 1)) return false;
      return true;
    },
    readHere: (fd, into, offset) => Number(pread(fd, into, into.length, offset)),
    writeHere: (fd, from, offset) => Number(pwrite(fd, from, from.length, offset)),
    lock: async (fd) => void (await call('flock', flock, [fd, LOCK_EX_NB])),
  };
}
