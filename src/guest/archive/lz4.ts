/**
 * Unpacks LZ4's legacy frames, in which Linux kernels are packed (LZ4 block format description;
 * LZ4 frame format description, "Legacy frame"): a magic number, then blocks of at most 8 MiB of
 * content, each after its packed size.
 *
 * Left out: frames with a descriptor, which no kernel is packed in.
 */

const magic = 0x184c2102;
/** Content of a legacy block, in bytes. */
const blockBytes = 8 << 20;
/** A match is at least so long. */
const minMatch = 4;

/**
 * Unpacks `packed` into `target`.
 * @returns the number of bytes
 * @throws RangeError if the data is damaged, or the content larger than `target`
 */
export function unpackLz4(packed: Uint8Array, target: Uint8Array): number {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  if (view.getUint32(0, true) !== magic) throw new RangeError('this is not a legacy LZ4 frame');
  let done = 0;
  for (let at = 4; at < packed.length;) {
    const length = view.getUint32(at, true);
    at += 4;
    if (length > packed.length - at) throw new RangeError('a block of LZ4 is cut off');
    const limit = Math.min(target.length, done + blockBytes);
    done = unpackBlock(packed.subarray(at, at + length), target, done, limit);
    at += length;
  }
  return done;
}

/** Unpacks one block to `target` from `start` on, up to `limit`. Returns the content's end. */
function unpackBlock(block: Uint8Array, target: Uint8Array, start: number, limit: number): number {
  let from = 0;
  let to = start;
  const next = (): number => {
    if (from >= block.length) throw new RangeError('a block of LZ4 is cut off');
    return block[from++]!;
  };
  /** A length that is 15 in the token goes on in further bytes. */
  const lengthOf = (bits: number): number => {
    let length = bits;
    if (bits === 15) for (let byte = 255; byte === 255;) length += byte = next();
    return length;
  };
  while (from < block.length) {
    const token = next();
    const literals = lengthOf(token >> 4);
    if (literals > block.length - from || literals > limit - to) throw new RangeError('literals of LZ4 do not fit');
    target.set(block.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from === block.length) break; // the last sequence has no match
    const distance = next() | (next() << 8);
    const length = lengthOf(token & 15) + minMatch;
    if (distance === 0 || distance > to - start || length > limit - to)
      throw new RangeError('a match of LZ4 does not fit');
    if (distance >= length) target.copyWithin(to, to - distance, to - distance + length);
    // A match may reach into its own result, which then repeats.
    else for (let i = 0; i < length; i++) target[to + i] = target[to + i - distance]!;
    to += length;
  }
  return to;
}
