/**
 * Errors that a person sees. Each message is one line that says what happened and what to do.
 *
 * Not here: errors of block requests (block/errors.ts).
 */

import { printable } from './printable.js';

/**
 * The kind of a failure, for code that decides by it; code never decides by a message.
 * `usage`: wrong usage of a command. `unreachable`: there is no way to the server. `device`: the
 * server is reached, and the device there cannot be used. `method`: this method of access cannot
 * use the device, another may. `no-answer`: a process of ours runs and does not answer. `taken`: a
 * process of ours has that name. `failed`: anything else.
 */
export type FailureKind = 'usage' | 'unreachable' | 'device' | 'method' | 'no-answer' | 'taken' | 'failed';

/** Options of a {@link FarbusError}. */
export interface FarbusErrorOptions {
  /** Exit status of the command. Default: 2 for wrong usage, else 1. */
  readonly exitCode?: number;
  /** Default: `usage` if the exit status is 2, else `failed`. */
  readonly kind?: FailureKind;
  /** The error that led to it. */
  readonly cause?: unknown;
}

/**
 * A failure that the user can correct: a bad option, path, address, image or peer. It is printed
 * without a stack trace.
 */
export class FarbusError extends Error {
  /** The name of the class. */
  override readonly name = 'FarbusError';
  /** Exit status of the command. */
  readonly exitCode: number;
  /** Why it failed, for code that decides by it. */
  readonly kind: FailureKind;

  /**
   * @param message One line: what happened and, after a colon or semicolon, what to do.
   */
  constructor(message: string, options: FarbusErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? (options.kind === 'usage' ? 2 : 1);
    this.kind = options.kind ?? (this.exitCode === 2 ? 'usage' : 'failed');
  }
}

/** A {@link FarbusError} for wrong usage of the command: exit status 2. */
export function usageError(message: string): FarbusError {
  return new FarbusError(message, { exitCode: 2 });
}

/** True for a {@link FarbusError} of that kind. */
export function isFailure(error: unknown, kind: FailureKind): boolean {
  return error instanceof FarbusError && error.kind === kind;
}

/** Longest message, in characters; longer ones are cut. */
const maxMessage = 500;

/**
 * The message of any thrown value, safe to show a person ({@link printable}): it may contain text
 * that a peer has sent. That of a failed system call is in the order in which people read it:
 * "permission denied: /etc/x (EACCES)".
 */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return printable(String(error), maxMessage);
  return printable(systemMessage(error) ?? (error.message || error.name), maxMessage);
}

/** The message of a failed system call in Node, for people; undefined for other errors. */
function systemMessage(error: Error): string | undefined {
  const { code, syscall, path } = error as { code?: unknown; syscall?: unknown; path?: unknown };
  if (typeof code !== 'string' || typeof syscall !== 'string') return undefined;
  const words = wordsBetween(error.message, `${code}: `, `, ${syscall}`);
  if (words === undefined) return undefined;
  return `${words}${typeof path === 'string' ? `: ${path}` : ''} (${code})`;
}

/** The part of a text between a start and the first `end` after it; undefined if it has none. */
function wordsBetween(text: string, start: string, end: string): string | undefined {
  const to = text.indexOf(end, start.length);
  return text.startsWith(start) && to > 0 ? text.slice(start.length, to) : undefined;
}

/** A one-line error that begins with the failed action. Keeps a FarbusError and its exit status. */
export function failed(what: string, error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  return new FarbusError(`${what}: ${messageOf(error)}`, { cause: error });
}

/** The `code` of a system error, such as "ENOSPC"; undefined if it has none. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
