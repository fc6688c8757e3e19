/**
 * Reading from a descriptor into several places of this process's memory with one call: readv(2).
 *
 * The places are addresses. The caller makes sure that the memory lives until the call has ended.
 */
import { bindOnce } from './koffi.node.js';
import type { Call } from './koffi.node.js';

/** Most places of one call (UIO_MAXIOV). */
const maxPlaces = 1024;

/** A list of places, to be reused. */
export interface Scatter {
  clear(): void;
  /** Appends a place. Returns false if the list is full. */
  readonly put: (address: number, length: number) => boolean;
  /** Reads once. Returns the number of bytes, or a negative errno. */
  read(fd: number): number;
}

/** A list of places; undefined if system calls are not available. */
export const scatterIfAny: () => Scatter | undefined = bindOnce((koffi) => {
  const readv = koffi.load(null).func('int64_t readv(int, void *, int)') as Call;
  // struct iovec: address and length, of 64 bits each, as halves.
  const vectors = new Uint32Array(4 * maxPlaces);
  let count = 0;
  return {
    clear: () => void (count = 0),
    put: (address, length) => {
      if (count === maxPlaces) return false;
      const at = 4 * count++;
      vectors[at] = address % 2 ** 32;
      vectors[at + 1] = address / 2 ** 32;
      vectors[at + 2] = length % 2 ** 32;
      vectors[at + 3] = length / 2 ** 32;
      return true;
    },
    read: (fd) => {
      const result = readv(fd, vectors, count);
      return result < 0 ? -koffi.errno() : Number(result);
    },
  };
});
