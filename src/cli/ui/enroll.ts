/** Registers a command's process, so that farbus ps, stop and others find it. */
import { isFailure, messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { ProcessKind } from '../../app/control/kinds.js';
import { register, type Facts } from '../../app/control/registry.js';
import type { ControlHandler } from '../../app/control/server.js';
import type { CliIo } from './io.js';
import { endInOrder } from './signals.js';

/** The names that processes get by default. */
export const usualNames = { computer: 'computer', serve: 'server', attach: 'disk' } as const;

/** This process in the registry. */
export interface Enrolled {
  readonly name: string;
  /** The process is ready: `handler` answers requests, and `facts` describes it. */
  serve(handler: ControlHandler, facts: () => Facts): void;
  /** Idempotent. */
  close(): Promise<void>;
}

export interface EnrollOptions {
  readonly io: CliIo;
  readonly kind: Exclude<ProcessKind, 'site'>;
  /** The name that the user chose; undefined for a usual one. */
  readonly name: string | undefined;
  readonly log: Logger;
  /** Sources, for `farbus ps` while the process starts. */
  readonly uses: readonly string[];
  /** Completes "farbus ps, stop and … will not find this …". */
  readonly without: string;
}

/**
 * Registers this process. Rejects with a FarbusError if the name is wrong or taken. If the folder
 * of control sockets cannot be used, the process runs without being found, and a warning says so; a
 * detached one does not run. Opens the logs of a detached process.
 */
export async function enroll({ io, kind, name, log, uses, without }: EnrollOptions): Promise<Enrolled> {
  const usual = usualNames[kind];
  try {
    const options = { kind, name, usual, env: io.env, end: endInOrder };
    const registration = await register(options, { state: 'starting', uses, reach: [] });
    try {
      io.detached?.open(registration.name, io.env);
    } catch (error) {
      await registration.close();
      throw error;
    }
    return registration;
  } catch (error) {
    // A detached process would be of no use if no command found it.
    if (io.detached || isFailure(error, 'usage') || isFailure(error, 'taken')) throw error;
    log.log('warn', `${without}: ${messageOf(error)}`);
    return { name: name ?? usual, serve: () => undefined, close: async () => undefined };
  }
}
