/**
 * The x86 filter of .xz files, as a decoder: turns the absolute targets of CALL and JMP
 * instructions back into relative ones. The Linux kernel for x86 is packed with it.
 *
 * Specification: .xz file format 1.2.1 section 5.3.2. It has no text on which bytes the encoder
 * takes for instructions; these rules are those of the XZ Utils.
 */

const instructionBytes = 5;

const isOpcode = (byte: number): boolean => byte === 0xe8 || byte === 0xe9;
/** The highest byte of a target that is near: the sign alone. */
const isSign = (byte: number): boolean => byte === 0 || byte === 0xff;

/**
 * By the set of opcode bytes among the three bytes before an opcode (bit 0: the byte just before):
 * the byte of the target that overlaps with the last of those instructions, counted from the
 * highest one; undefined where the encoder leaves the instruction as it is.
 */
const overlap: readonly (number | undefined)[] = [0, 1, 2, undefined, 3, undefined, undefined, undefined];

/** Decodes `bytes` in place: all of the filtered data. */
export function decodeX86(bytes: Uint8Array): void {
  let before = 0;
  let last = -instructionBytes;
  for (let at = 0; at + instructionBytes <= bytes.length; at++) {
    if (!isOpcode(bytes[at]!)) continue;
    const distance = at - last;
    last = at;
    before = distance > 3 ? 0 : (before << (distance - 1)) & 7;
    const byte = overlap[before];
    const overlapped = byte === undefined || (before !== 0 && isSign(bytes[at + 4 - byte]!));
    if (overlapped || !isSign(bytes[at + 4]!)) {
      before = (before << 1) | 1;
      continue;
    }
    putTarget(bytes, at + 1, relative(bytes, at, byte));
    at += instructionBytes - 1;
  }
}

/** The relative target of the instruction at `at`, whose stored target is absolute. */
function relative(bytes: Uint8Array, at: number, byte: number): number {
  let absolute = bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 24);
  for (;;) {
    const target = (absolute - at - instructionBytes) | 0;
    // The encoder repeated its conversion as long as the result would be taken for another one.
    if (byte === 0 || !isSign((target >>> (24 - 8 * byte)) & 0xff)) return target;
    absolute = target ^ ((1 << (32 - 8 * byte)) - 1);
  }
}

/** Stores a target. Its highest byte is its sign, from bit 24. */
function putTarget(bytes: Uint8Array, at: number, target: number): void {
  bytes[at] = target;
  bytes[at + 1] = target >> 8;
  bytes[at + 2] = target >> 16;
  bytes[at + 3] = (target >> 24) & 1 ? 0xff : 0;
}
