/**
 * Ends the process at once, whatever hangs. `process.exit` alone does not: it waits for the threads that read disks and look up
 * host names, and a disk that does not answer keeps its thread for ever.
 */
import { createRequire } from 'node:module';

/** Resources of Node's that stand for work on a thread. */
const onThread = /^(?:FSReq|GetAddrInfo|GetNameInfo|FSEvent|FileHandleCloseReq|Work)/;

/** Never returns. What is to be done at the end (`process.on('exit')`) is done. */
export function endProcess(status: number): never {
  const leave = systemExit();
  // The last listener: those that clean up have been called before it.
  process.on('exit', () => {
    if (leave) leave(status);
    // Without koffi only a signal ends a process with a thread that hangs, and then the status is the signal's.
    else if (process.getActiveResourcesInfo().some((name) => onThread.test(name))) process.kill(process.pid, 'SIGKILL');
  });
  process.exit(status);
}

/** _exit(2), which waits for no thread; undefined without koffi. */
function systemExit(): ((status: number) => void) | undefined {
  if (process.platform !== 'linux' || process.env['FARBUS_NO_KOFFI']) return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    return koffi.load(null).func('void _exit(int status)') as (status: number) => void;
  } catch {
    return undefined;
  }
}
