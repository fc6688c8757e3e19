/**
 * Ends the process immediately, even while a thread hangs.
 *
 * `process.exit` alone does not: it waits for the threads that read disks and resolve host names,
 * and a disk that does not answer blocks its thread for ever.
 */
import { createRequire } from 'node:module';

/**
 * Names of Node's active resources (process.getActiveResourcesInfo) that stand for work on a
 * thread.
 */
const onThread = /^(?:FSReq|GetAddrInfo|GetNameInfo|FSEvent|FileHandleCloseReq|Work)/;

/**
 * Ends the process with the exit status `status`, after the listeners of `process.on('exit')` have
 * run.
 */
export function endProcess(status: number): never {
  const leave = systemExit();
  // Added last, so that listeners that clean up run first.
  process.on('exit', () => {
    if (leave) leave(status);
    // Without koffi only a signal ends a process whose thread hangs. The exit status is then lost.
    else if (process.getActiveResourcesInfo().some((name) => onThread.test(name))) process.kill(process.pid, 'SIGKILL');
  });
  process.exit(status);
}

/** _exit(2), which does not wait for threads; undefined without koffi. */
function systemExit(): ((status: number) => void) | undefined {
  if (process.platform !== 'linux' || process.env['FARBUS_NO_KOFFI']) return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    return koffi.load(null).func('void _exit(int status)') as (status: number) => void;
  } catch {
    return undefined;
  }
}
