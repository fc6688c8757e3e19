/**
 * Reads the head of an answer of HTTP/1.1 (RFC 9112 §2, §4, §5) from received bytes.
 *
 * It knows only heads whose meaning is beyond doubt; all others are `unusual`, and their request is
 * sent again by a client that knows all of HTTP (send.node.ts).
 */
import type { Buffer } from 'node:buffer';

/** Longest head of an answer, in bytes. Longer ones are unusual. nginx sends some 300 bytes. */
export const longestHead = 16 << 10;

export interface AnswerHead {
  readonly status: number;
  /** Length of the body in bytes; undefined if its end is not known by a length. */
  readonly length: number | undefined;
  /** The connection ends after this answer. */
  readonly isLast: boolean;
  /** The value of a header; the name is in lower case. The first one counts. */
  header(name: string): string | undefined;
}

/** A head, and where the bytes after it begin. */
export interface FoundHead {
  readonly head: AnswerHead;
  readonly end: number;
}

const statusLine = /^HTTP\/1\.1 ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
/** A field name, a colon, and a value that has no control characters (RFC 9110 §5.1, §5.5). */
const fieldLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)$/;

/**
 * Finds the head that begins at byte `at` of `bytes`.
 * @returns undefined if more bytes are needed
 */
export function readHead(bytes: Buffer, at: number): FoundHead | 'unusual' | undefined {
  const stop = bytes.indexOf('\r\n\r\n', at, 'latin1');
  if (stop < 0) return bytes.length - at > longestHead ? 'unusual' : undefined;
  if (stop - at > longestHead) return 'unusual';
  const head = parse(bytes.toString('latin1', at, stop));
  return head && isUsual(head) ? { head: answerHead(head), end: stop + 4 } : 'unusual';
}

interface Fields {
  readonly status: number;
  readonly names: readonly string[];
  readonly values: readonly string[];
}

function parse(text: string): Fields | undefined {
  const [first, ...lines] = text.split('\r\n');
  const status = statusLine.exec(first!)?.[1];
  if (status === undefined) return undefined;
  const names: string[] = [];
  const values: string[] = [];
  for (const line of lines) {
    const found = fieldLine.exec(line);
    if (!found) return undefined;
    names.push(found[1]!.toLowerCase());
    values.push(found[2]!.trimEnd());
  }
  return { status: Number(status), names, values };
}

/** False if it is not the final answer, or a range whose length is in doubt. */
function isUsual({ status, names, values }: Fields): boolean {
  if (status !== 206) return status >= 200;
  const at = names.indexOf('content-length');
  if (at < 0 || names.lastIndexOf('content-length') !== at || names.includes('transfer-encoding')) return false;
  return /^\d{1,15}$/.test(values[at]!);
}

function answerHead({ status, names, values }: Fields): AnswerHead {
  const header = (name: string): string | undefined => values[names.indexOf(name)];
  const length = status === 206 ? Number(header('content-length')) : undefined;
  return { status, length, isLast: names.some((name, at) => name === 'connection' && !isKept(values[at]!)), header };
}

function isKept(connection: string): boolean {
  return connection.toLowerCase() === 'keep-alive';
}
