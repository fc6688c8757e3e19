/**
 * Numbers of sessions (../session.ts) of which any two differ in at least four bits, and from zero
 * too. So three flipped bits in the field of a delayed command of an ended session cannot make it a
 * command of a session that is open: the seal (../seal.ts) does not protect the number itself.
 *
 * Specification: the words of the extended Hamming code of 16 bits (R. Hamming, "Error Detecting
 * and Error Correcting Codes", 1950): a word belongs to it if the positions of its set bits combine
 * to zero by XOR, and their number is even.
 */

/** Positions of the counter's bits. Bits 1, 2, 4 and 8 make the XOR zero, bit 0 the count even. */
const dataBits = [3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15];

export const generationCount = (1 << dataBits.length) - 1;

/** The number of session `count`, from 1 to {@link generationCount}. */
export function generationOf(count: number): number {
  let word = 0;
  let positions = 0;
  dataBits.forEach((bit, index) => {
    if (!((count >> index) & 1)) return;
    word |= 1 << bit;
    positions ^= bit;
  });
  for (const bit of [1, 2, 4, 8]) if (positions & bit) word |= 1 << bit;
  return isEven(word) ? word : word | 1;
}

function isEven(word: number): boolean {
  let rest = word;
  for (const shift of [8, 4, 2, 1]) rest ^= rest >> shift;
  return (rest & 1) === 0;
}
