/**
 * Loads koffi, the optional package that calls the C library. All system calls of Farbus go through
 * it: this is the only file that loads it.
 *
 * The environment variable FARBUS_NO_KOFFI turns all of them off, at any time. Layouts and numbers
 * in this folder are those of Linux on x86-64 and arm64; on other systems nothing is loaded.
 * Callers then use Node's functions, which are slower, or refuse what Node cannot do.
 */
import { createRequire } from 'node:module';
import { FarbusError } from '../base/errors.js';

export type Koffi = typeof import('koffi');

/** A C function as koffi provides it. */
export type Call = (...args: unknown[]) => number;

let loaded: Koffi | undefined;
let failure: unknown;

/** koffi, loaded at the first call; undefined if it is not available. */
export function koffi(): Koffi | undefined {
  return missing() === undefined ? loaded : undefined;
}

/**
 * Like {@link koffi}, for a feature that does not work without it.
 * @param what begins the error message, for example "eth0"
 * @throws FarbusError if koffi is not available
 */
export function requireKoffi(what: string): Koffi {
  const reason = missing();
  if (reason !== undefined) throw new FarbusError(`${what}: ${reason}`, { cause: failure });
  return loaded!;
}

/** The reason why koffi is not available; undefined if it is. */
function missing(): string | undefined {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    return 'needs system calls of Linux (x64, arm64)';
  }
  if (process.env['FARBUS_NO_KOFFI']) return 'needs koffi, which FARBUS_NO_KOFFI turns off';
  if (loaded === undefined && failure === undefined) {
    try {
      loaded = createRequire(import.meta.url)('koffi') as Koffi;
    } catch (error) {
      failure = error;
    }
  }
  return loaded ? undefined : 'needs the optional package koffi: run npm install koffi';
}

/**
 * Calls of one topic, bound at first use. The returned function gives undefined if koffi is not
 * available, or if this system's C library lacks one of the calls.
 */
export function bindOnce<T>(bind: (koffi: Koffi) => T): () => T | undefined {
  let bound: T | undefined;
  let lacks = false;
  return () => {
    const native = koffi();
    if (!native || lacks) return undefined;
    try {
      return (bound ??= bind(native));
    } catch {
      lacks = true;
      return undefined;
    }
  };
}
