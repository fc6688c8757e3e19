/**
 * Errors that a person sees, and what every error message here owes its reader: one line, what happened and what to
 * do. Errors of block requests are in block/errors.ts.
 */

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

/** The message of anything that can be thrown, on one line and of bounded length. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, ' ').trim().slice(0, 500);
}

/** The `code` of a system error ("ENOSPC"), or undefined. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
