/**
 * The few calls of the C library that Node does not offer, through koffi where it is installed: fallocate(2), lseek(2)
 * for SEEK_DATA and SEEK_HOLE, ioctl(2) of block devices (linux/fs.h), flock(2), preadv2(2), and pread(2) and pwrite(2)
 * without a thread. All others that may wait for a disk run on one. Without koffi, on another system than Linux, or with FARBUS_NO_KOFFI set, there is none of it: callers
 * then do the same with what Node has, slower.
 */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

/** fallocate(2): the file keeps its size. */
export const FALLOC_FL_KEEP_SIZE = 0x01;
/** fallocate(2): gives the range's blocks back; it reads as zeroes. Only together with FALLOC_FL_KEEP_SIZE. */
export const FALLOC_FL_PUNCH_HOLE = 0x02;
/** fallocate(2): the range reads as zeroes and keeps its blocks. */
export const FALLOC_FL_ZERO_RANGE = 0x10;

/** lseek(2). */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** ioctl(2) requests of linux/fs.h, as they are on x86-64 and arm64. */
export const BLKROGET = 0x125e;
export const BLKSSZGET = 0x1268;
export const BLKDISCARD = 0x1277;
export const BLKGETSIZE64 = 0x80081272;
export const BLKGETDISKSEQ = 0x80081280;

/** Calls on threads at once; more wait. koffi refuses a call beyond 256 (koffi, "max_async_calls"). */
const maxCalls = 128;

/** flock(2): exclusive, and fail rather than wait. */
const LOCK_EX_NB = 0x02 | 0x04;

export interface Libc {
  /** Rejects with an error that has an errno `code`. Offsets and lengths in bytes. */
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void>;
  /** The next data or hole from `offset`; undefined where there is none up to the file's end (ENXIO). */
  seek(fd: number, offset: number, whence: typeof SEEK_DATA | typeof SEEK_HOLE): Promise<number | undefined>;
  /** `argument` is what the request's pointer points to, in the machine's byte order; it is read and written in place. */
  ioctl(fd: number, request: number, argument: Uint8Array): Promise<void>;
  /** ioctl(2) whose argument is a number and not a pointer; what it returns. */
  control(fd: number, request: number, value: number): Promise<number>;
  /** BLKGETSIZE64, in bytes. */
  deviceSize(fd: number): Promise<number>;
  /** BLKGETDISKSEQ, on the caller's thread: it waits for nothing. Undefined where the kernel has none (before 5.15). */
  diskSequence(fd: number): number | undefined;
  /**
   * preadv2(2) with RWF_NOWAIT: reads what needs no disk, at once and on the caller's thread.
   * @returns how many bytes of `into` that was; 0 where nothing is in the page cache, or for whatever else a read that
   *   may wait will tell; undefined where the file system cannot say.
   */
  readCached(fd: number, into: Uint8Array, offset: number): number | undefined;
  /** mincore(2) on a mapping made for it: whether all pages of a range of a regular file are in the page cache. */
  resident(fd: number, offset: number, length: number): boolean;
  /** pread(2) on the caller's thread: for file systems that are memory. Returns the bytes read; -1 for any error. */
  readHere(fd: number, into: Uint8Array, offset: number): number;
  /** pwrite(2) on the caller's thread. Returns the bytes written; -1 for any error. */
  writeHere(fd: number, from: Uint8Array, offset: number): number;
  /** Locks the open file against every other that is locked. Rejects with EWOULDBLOCK (EAGAIN) where one is. */
  lock(fd: number): Promise<void>;
}

/** preadv2(2): fail rather than wait. */
const RWF_NOWAIT = 0x08;

/** A C function as koffi gives it: its `async` runs it on a thread. */
interface Callable {
  async(...args: unknown[]): void;
}

/** mmap(2). */
const PROT_READ = 1;
const MAP_SHARED = 1;
const mapFailed = 0xffff_ffff_ffff_ffffn;
/** Smallest pages that there are; where they are larger, the mapping fails, or more is looked at than asked. */
const pageSize = 4096;
/** Longest range that is looked at: 32 MiB and what an offset adds. */
const maxPages = (32 << 20) / pageSize + 1;

let loaded: Libc | undefined;
let tried = false;

/** The C library, or undefined where it cannot be had. Loaded at the first call. */
export function libc(): Libc | undefined {
  if (!tried) {
    tried = true;
    loaded = load();
  }
  return process.env['FARBUS_NO_KOFFI'] ? undefined : loaded;
}

function load(): Libc | undefined {
  const known = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
  if (!known || process.env['FARBUS_NO_KOFFI']) return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    return bind(koffi);
  } catch {
    // Not installed (it is optional), or no binary for this machine.
    return undefined;
  }
}

function bind(koffi: typeof import('koffi')): Libc {
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
  /** mincore(2)'s answer, a byte for each page. */
  const pages = new Uint8Array(maxPages);
  /** A struct iovec: address and length. Filled for one call; its memory is the caller's, alive while it lasts. */
  const vector = new BigUint64Array(2);
  const { EOPNOTSUPP, ENOSYS, EINVAL } = koffi.os.errno;

  let running = 0;
  const waiting: (() => void)[] = [];
  /** Calls on a thread. `pinned` is what the call points to: held until it is over ([FIND] 7.4). */
  const call = async (name: string, fn: Callable, args: readonly unknown[], pinned?: Uint8Array): Promise<number> => {
    if (running >= maxCalls) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    return new Promise((resolve, reject) => {
      const held = new Set([pinned]);
      fn.async(...args, (error: unknown, result: number) => {
        // The thread's errno is to be had in this callback only.
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

/** An error of the operating system, with an errno `code`. */
export function systemError(name: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${name}: ${code}`), { code, errno: -errno, syscall: name });
}
