/** Errors of system calls. */
import { getSystemErrorName } from 'node:util';

/** The error for a positive errno of a system call, with `code`, `errno` and `syscall`. */
export function systemError(call: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${call}: ${code}`), { code, errno: -errno, syscall: call });
}
