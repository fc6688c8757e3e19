/**
 * Judges the bytes that an NBD target has sent ([NBD], [EXT]): the fault in them, if any, and a
 * signature.
 */
import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  NbdError,
  Option,
  OptionReply,
  ReplyType,
} from '../../../src/protocol/nbd/spec.js';
import { getBigU64, getU16, getU32, getU64 } from '../../../src/base/big-endian.js';
import { poison } from '../harness/input.js';
import { exportSize } from '../harness/compositions.js';

export interface Verdict {
  readonly signature: string;
  /** The fault; undefined if there is none. */
  readonly wrong?: string;
}

const errors = new Set<number>(Object.values(NbdError));
const optionTypes = new Set<number>(Object.values(OptionReply));
/** Longest signature, in events. */
const maxEvents = 24;

/** @param closed Whether the connection has ended, perhaps in the middle of a message. */
export function judge(out: Uint8Array, closed: boolean): Verdict {
  const events: string[] = [];
  const note = (event: string): void => {
    if (events.length < maxEvents && events.at(-1) !== event) events.push(event);
  };
  const end = (wrong?: string): Verdict => ({ signature: events.join(' '), ...(wrong !== undefined && { wrong }) });
  const torn = (): Verdict => end(closed ? undefined : 'a message without its end');
  if (out.length < 18) return end('no greeting');
  let at = 18;
  let style = 0;
  for (;;) {
    if (at === out.length) return end();
    if (at + 20 > out.length) {
      // The answer to NBD_OPT_EXPORT_NAME has no header; 10 bytes of it can be all.
      return getU32(out, at) === 0 ? end() : torn();
    }
    // That answer has no magic number either; it begins with the size.
    if (getBigU64(out, at) !== NBD_OPTION_REPLY_MAGIC) {
      return getU64(out, at) === exportSize ? end() : end('something that is no option reply');
    }
    const option = getU32(out, at + 8);
    const type = getU32(out, at + 12);
    const length = getU32(out, at + 16);
    if (!optionTypes.has(type)) return end(`an option reply of type ${type}`);
    if (length > 8192) return end('an option reply that is too long');
    note(`${option <= 11 ? option : 'x'}:${type & 0xff}`);
    at += 20 + length;
    if (at > out.length) return torn();
    if (type !== OptionReply.ack) continue;
    if (option === Option.structuredReply) style = 1;
    if (option === Option.extendedHeaders) style = 2;
    if (option === Option.go) break;
  }
  // Simple replies do not say how long they are.
  if (style === 0) return end();
  note(style === 1 ? 's' : 'e');
  while (at < out.length) {
    if (style === 1 && at + 16 <= out.length && getU32(out, at) === NBD_SIMPLE_REPLY_MAGIC) {
      const error = getU32(out, at + 4);
      if (error !== 0 && !errors.has(error)) return end(`error ${error}`);
      note(`r${error}`);
      at += 16;
      continue;
    }
    const header = style === 1 ? 20 : 32;
    if (at + header > out.length) return torn();
    if (getU32(out, at) !== (style === 1 ? NBD_STRUCTURED_REPLY_MAGIC : NBD_EXTENDED_REPLY_MAGIC)) {
      return end('something that is no reply');
    }
    const type = getU16(out, at + 6);
    const length = style === 1 ? getU32(out, at + 16) : getU64(out, at + 24);
    at += header;
    if (at + length > out.length) return torn();
    const wrong = chunk(out, at, type, length, style);
    if (wrong !== undefined) return end(wrong);
    note(type === ReplyType.error ? `e${getU32(out, at)}` : `t${type}`);
    at += length;
  }
  return end();
}

/** The fault in the payload of a chunk; undefined if there is none. */
function chunk(out: Uint8Array, at: number, type: number, length: number, style: number): string | undefined {
  switch (type) {
    case ReplyType.none:
      return length === 0 ? undefined : 'an empty chunk with a payload';
    case ReplyType.offsetData: {
      if (length < 9) return 'a data chunk without data';
      if (getU64(out, at) + length - 8 > exportSize) return 'data from outside the export';
      const found = out.indexOf(poison, at + 8);
      return found >= 0 && found < at + length ? 'memory that is not of the export' : undefined;
    }
    case ReplyType.blockStatus:
      return style === 1 && length >= 12 && length % 8 === 4 ? undefined : 'a wrong block status';
    case ReplyType.blockStatusExtended:
      return style === 2 && length === 8 + 16 * getU32(out, at + 4) ? undefined : 'a wrong extended block status';
    case ReplyType.error:
      if (length < 6 || getU16(out, at + 4) !== length - 6) return 'a wrong error chunk';
      return errors.has(getU32(out, at)) ? undefined : `error ${getU32(out, at)}`;
    default:
      return `a chunk of type ${type}`;
  }
}
