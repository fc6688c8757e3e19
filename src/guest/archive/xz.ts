/**
 * Reads .xz files, which Debian packages and kernels are packed in.
 *
 * Specification: .xz file format 1.2.1 (tukaani.org/xz/xz-file-format.txt). Filters: LZMA2, and x86
 * before it.
 *
 * Checked: the CRC-32 of the contents, which kernels have. Left out: other filters, other checks
 * (Debian's packages have a CRC-64; callers know their SHA-256) and the index of each stream.
 */
import { crc32Raw } from '../../base/crc32.js';
import { DamagedError, Lzma2Decoder } from './lzma2.js';
import { decodeX86 } from './x86-filter.js';

const magic = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const streamHeaderBytes = 12;
/** Maximum dictionary in bytes: that of `xz -9`. */
const maxDictionary = 64 << 20;
/** Maximum unpacked size of a block with the x86 filter, in bytes; no kernel reaches it. */
const maxFiltered = 512 << 20;
const checkCrc32 = 1;
const filterX86 = 4;
const filterLzma2 = 0x21;

/** True if `bytes` begin as an .xz file does. */
function isXz(bytes: Uint8Array): boolean {
  return magic.every((byte, index) => bytes[index] === byte);
}

/**
 * Yields the contents of an .xz file in parts. Each part is valid until the next one.
 * @throws DamagedError
 */
export function* unpackXz(file: Uint8Array): Generator<Uint8Array> {
  let at = 0;
  do {
    if (!isXz(file.subarray(at))) throw new DamagedError('it is not an .xz file');
    const check = file[at + 7]!;
    at += streamHeaderBytes;
    while (file[at] !== 0) {
      const header = blockHeader(file, at);
      const start = header.end;
      const decoder = new Lzma2Decoder(header.dictionary);
      const parts = header.x86 ? filtered(decoder, file, start) : decoder.decode(file, start);
      let crc = 0xffffffff;
      let step = parts.next();
      for (; !step.done; step = parts.next()) {
        if (check === checkCrc32) crc = crc32Raw(crc, step.value);
        yield step.value;
      }
      at = step.value + ((start - step.value) & 3);
      if (check === checkCrc32 && number32(file, at) !== ~crc) throw new DamagedError('the CRC-32 is wrong');
      at += checkSize(check);
    }
    at = afterStream(file, at);
  } while (at < file.length);
}

/** The filter refers to positions in the whole block, which is therefore unpacked at once. */
function* filtered(decoder: Lzma2Decoder, file: Uint8Array, start: number): Generator<Uint8Array, number> {
  const parts: Uint8Array[] = [];
  const steps = decoder.decode(file, start);
  let step = steps.next();
  let total = 0;
  for (; !step.done; step = steps.next()) {
    total += step.value.length;
    if (total > maxFiltered) throw new DamagedError('a block with the x86 filter is larger than 512 MiB');
    parts.push(step.value.slice());
    yield new Uint8Array(0);
  }
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  decodeX86(whole);
  yield whole;
  return step.value;
}

/** A 32-bit number, little-endian, in signed form. */
function number32(file: Uint8Array, at: number): number {
  return file[at]! | (file[at + 1]! << 8) | (file[at + 2]! << 16) | (file[at + 3]! << 24);
}

/** Section 2.1.1.2: size of a check by its number, in bytes. */
function checkSize(check: number): number {
  return check === 0 ? 0 : 4 << Math.floor((check - 1) / 3);
}

interface BlockHeader {
  readonly end: number;
  readonly dictionary: number;
  readonly x86: boolean;
}

/** Section 3.1. */
function blockHeader(file: Uint8Array, start: number): BlockHeader {
  const end = start + (file[start] ?? 0) * 4 + 4;
  if (end > file.length) throw new DamagedError('the file ends early');
  const flags = file[start + 1]!;
  const at = { at: start + 2 };
  if (flags & 0x40) variableInteger(file, at);
  if (flags & 0x80) variableInteger(file, at);
  let dictionary: number | undefined;
  let x86 = false;
  for (let count = (flags & 3) + 1; count > 0; count--) {
    const filter = variableInteger(file, at);
    const size = variableInteger(file, at);
    if (filter === filterLzma2 && size === 1 && count === 1) dictionary = dictionarySize(file[at.at]!);
    else if (filter === filterX86 && size === 0) x86 = true;
    else throw new DamagedError(`the filter ${filter} of .xz is not supported`);
    at.at += size;
  }
  if (dictionary === undefined || at.at > end - 4) throw new DamagedError('a block has no LZMA2 data');
  return { end, dictionary, x86 };
}

/** Section 5.3.1. */
function dictionarySize(bits: number): number {
  const size = bits > 40 ? Infinity : (2 | (bits & 1)) * 2 ** ((bits >> 1) + 11);
  if (size > maxDictionary) throw new DamagedError('the dictionary is larger than 64 MiB');
  return size;
}

/** Section 1.2. */
function variableInteger(file: Uint8Array, from: { at: number }): number {
  let value = 0;
  for (let shift = 0; shift < 49; shift += 7) {
    const byte = file[from.at++] ?? 0;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return value;
  }
  throw new DamagedError('a number is too large');
}

/** The offset after the index at `start`, the stream's footer, and padding. */
function afterStream(file: Uint8Array, start: number): number {
  const at = { at: start + 1 };
  for (let left = variableInteger(file, at); left > 0 && at.at < file.length; left--) {
    variableInteger(file, at);
    variableInteger(file, at);
  }
  let next = at.at + ((start - at.at) & 3) + 4 + streamHeaderBytes;
  if (next > file.length || file[next - 2] !== 0x59 || file[next - 1] !== 0x5a) {
    throw new DamagedError('the file ends early');
  }
  while (next < file.length && file[next] === 0) next++;
  return next;
}
