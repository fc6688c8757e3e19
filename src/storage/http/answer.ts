/**
 * Reads the head of an answer to a range request (RFC 9110 §14, §15): the range that its body
 * holds, and the facts that tell one version of the object from another. Trusts nothing: a server
 * may answer with another range, the whole object, or an error page.
 */
import type { HttpHead } from './exchange.js';

/** A range of bytes: from `start` to before `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** The facts that differ between versions of an object. */
export interface ObjectVersion {
  /** Length of the object in bytes. */
  readonly size: number;
  /** Its entity tag, strong or weak (RFC 9110 §8.8.3). */
  readonly tag: string | undefined;
  /** Its Last-Modified date, as the server writes it. */
  readonly date: string | undefined;
}

/**
 * The meaning of an answer.
 * - `bytes`: the body has these bytes, a beginning of the range that was asked for.
 * - `changed`: the object is not the one that was opened.
 * - `unfit`: the server cannot serve a disk, or contradicts itself.
 * - `refused`: access is denied, or the object is gone: another address may help.
 * - `later`: the server asks for another attempt, after a pause in ms if it says so.
 */
export type Answer =
  | { readonly kind: 'bytes'; readonly range: ByteRange; readonly version: ObjectVersion }
  | { readonly kind: 'changed' }
  | { readonly kind: 'unfit'; readonly why: string }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'later'; readonly why: string; readonly pauseMs: number | undefined };

/** Statuses after which the same request may succeed. */
const passing: readonly number[] = [408, 425, 429, 500, 502, 503, 504];

/** @param asked the range that was requested */
export function readAnswer(head: HttpHead, asked: ByteRange): Answer {
  const { status } = head;
  if (passing.includes(status)) {
    return { kind: 'later', why: `status ${status}`, pauseMs: retryAfter(head.header('retry-after')) };
  }
  if (status === 401 || status === 403) return { kind: 'refused', why: `access denied (status ${status})` };
  if (status === 404 || status === 410) return { kind: 'refused', why: `there is no such object (status ${status})` };
  if (status === 412 || status === 416) return { kind: 'changed' };
  // Servers ignore a range of an empty object, and send the whole of it.
  if (status === 200 && head.header('content-length')?.trim() === '0') return { kind: 'changed' };
  if (status === 200) return unfit('the server does not serve ranges of bytes, which a disk needs');
  if (status !== 206) return unfit(`the server answered with status ${status}`);
  const encoding = head.header('content-encoding') ?? 'identity';
  if (encoding !== 'identity') return unfit('the server compresses the object: serve it as it is');
  const found = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(head.header('content-range')?.trim() ?? '');
  if (!found) return unfit('the server does not say which bytes it sends and how many there are');
  const [start, last, size] = found.slice(1).map(Number) as [number, number, number];
  if (start !== asked.start || last < start || last >= Math.min(asked.end, size)) {
    return unfit(`the server sends bytes ${start}-${last} of ${size} instead of the ones asked for`);
  }
  const version = { size, tag: head.header('etag'), date: head.header('last-modified') };
  return { kind: 'bytes', range: { start, end: last + 1 }, version };
}

function unfit(why: string): Answer {
  return { kind: 'unfit', why };
}

/** True if two answers are about the same version, as far as their servers say. */
export function isSameVersion(one: ObjectVersion, other: ObjectVersion): boolean {
  if (one.size !== other.size) return false;
  if (one.tag !== undefined) return one.tag === other.tag;
  return one.date === other.date;
}

/** True for an entity tag that a server compares byte by byte: If-Match takes no weak ones. */
export function isStrong(tag: string | undefined): tag is string {
  return tag !== undefined && tag.startsWith('"');
}

/** The pause of a Retry-After header (RFC 9110 §10.2.3) in ms; undefined if it says nothing. */
function retryAfter(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}
