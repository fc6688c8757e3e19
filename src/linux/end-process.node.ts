/**
 * Ends the process immediately, even while a thread hangs.
 *
 * `process.exit` alone does not: it waits for the threads that read disks and resolve host names,
 * and a disk that does not answer blocks its thread for ever.
 */
import { systemExit } from './process.node.js';

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
