/** The exit statuses of all commands, in one table. Those above 128 follow a shell's rules. */
import type { Definition } from './ui/wrap.js';

export const exitStatus = {
  /** It is done. */
  done: 0,
  /** The command was tried and failed. */
  failed: 1,
  /**
   * The command line or a configuration file is wrong by itself, whatever is on disks, servers or
   * other processes; nothing was tried.
   */
  usage: 2,
  /** The time limit passed, as in timeout(1). */
  late: 124,
  /** The program cannot be run. */
  notRunnable: 126,
  /** There is no such program. */
  notFound: 127,
  /** SIGHUP: the terminal was closed. */
  hungUp: 129,
  /** SIGINT: Ctrl-C. */
  interrupted: 130,
  /** SIGPIPE: the reader of the output has left. */
  brokenPipe: 141,
  /** SIGTERM, before the command had a result. */
  terminated: 143,
} as const;

/** The statuses that every command can have, for people. */
export const commonStatuses: readonly Definition[] = [
  [String(exitStatus.done), 'done; also a server or computer that SIGTERM ended in good order'],
  [String(exitStatus.failed), 'failed: it was tried and did not succeed'],
  [
    String(exitStatus.usage),
    'wrong use: the command line or a configuration file is wrong by itself, and nothing was tried',
  ],
  [String(exitStatus.hungUp), 'the terminal was closed (SIGHUP)'],
  [String(exitStatus.interrupted), 'Ctrl-C (SIGINT)'],
  [String(exitStatus.brokenPipe), 'the reader of the output left before its end'],
  [String(exitStatus.terminated), 'SIGTERM ended the command before it had a result'],
];
