/**
 * Errors that a person sees. Each message is one line that says what happened and what to do.
 *
 * Not here: errors of block requests (block/errors.ts).
 */

import { printable } from './printable.js';

/**
 * A failure that the user can correct: a bad option, path, address, image or peer. It is printed
 * without a stack trace.
 */
export class FarbusError extends Error {
  override readonly name = 'FarbusError';
  /** Exit status of the command: 2 for wrong usage, 1 by default. */
  readonly exitCode: number;

  /**
   * @param message One line: what happened and, after a colon or semicolon, what to do.
   */
  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}

/** A {@link FarbusError} for wrong usage of the command: exit status 2. */
export function usageError(message: string): FarbusError {
  return new FarbusError(message, { exitCode: 2 });
}

/** Longest message, in characters; longer ones are cut. */
const maxMessage = 500;

/**
 * The message of any thrown value, safe to show a person ({@link printable}): it may contain text
 * that a peer has sent.
 */
export function messageOf(error: unknown): string {
  return printable(error instanceof Error ? error.message || error.name : String(error), maxMessage);
}

/** The `code` of a system error, such as "ENOSPC"; undefined if it has none. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
