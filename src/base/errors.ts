/**
 * Errors that a person sees, and what every error message here owes its reader: one line, what happened and what to
 * do. Errors of block requests are in block/errors.ts.
 */

import { printable } from './printable.js';

/** A failure that is the user's to mend: a bad option, path, address, image or peer. Printed without a stack trace. */
export class FarbusError extends Error {
  override readonly name = 'FarbusError';
  /** Exit status of the command: 2 for a wrong use, 1 for everything else that has no status of its own. */
  readonly exitCode: number;

  /**
   * @param message What happened and, after a colon or semicolon, what to do. One line.
   */
  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}

/** A {@link FarbusError} for a wrong use of the command: exit status 2. */
export function usageError(message: string): FarbusError {
  return new FarbusError(message, { exitCode: 2 });
}

/** Longest message, in characters. */
const maxMessage = 500;

/** The message of anything that can be thrown, as a person may see it ({@link printable}): peers have their words in it. */
export function messageOf(error: unknown): string {
  return printable(error instanceof Error ? error.message || error.name : String(error), maxMessage);
}

/** The `code` of a system error ("ENOSPC"), or undefined. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
