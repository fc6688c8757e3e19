/**
 * The seal of a command in a Farbus session (session.ts): a checksum of its header, CRC-16 with the
 * polynomial 0x1021 (ITU-T V.41). AoE has no checksum of its own, so a turned bit that no other
 * checksum finds could send a write to another sector. A message with a wrong seal is dropped, and
 * the command is sent again.
 *
 * The generation in the two reserved bytes of the ATA argument is combined with the seal by XOR. So
 * the seal needs no room, and damage looks like a session that does not exist.
 *
 * A sealed field of zero would look like a command outside of a session, which is executed. So an
 * initiator skips the tags that give a weak field ({@link isWeak}).
 *
 * Not here: the data of a message, which the seal does not cover.
 */
import { getU16, putU16 } from '../../base/big-endian.js';
import { AOE_VERSION, AtaArgument, Header } from './spec.js';

const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0);
  return crc;
});

/** The CRC of the header and the ATA argument of a message, without the reserved bytes. */
function crcOf(frame: Uint8Array, versionFlags: number, error: number): number {
  let crc = 0xffff;
  const add = (byte: number): void => void (crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ byte]!);
  add(versionFlags);
  add(error);
  for (let at: number = Header.shelf; at < AtaArgument.reserved; at++) add(frame[at]!);
  return crc;
}

/** Writes the sealed generation. The rest of the header must be complete. */
export function putSealed(frame: Uint8Array, generation: number): void {
  const crc = crcOf(frame, frame[Header.versionFlags]!, frame[Header.error]!);
  putU16(frame, AtaArgument.reserved, generation ^ crc);
}

/** The generation in a sealed answer. If the header is damaged, it is an arbitrary number. */
export function getSealedOfAnswer(frame: Uint8Array): number {
  return getU16(frame, AtaArgument.reserved) ^ crcOf(frame, frame[Header.versionFlags]!, frame[Header.error]!);
}

/**
 * The generation in a sealed request, or in an unsealed answer that repeats the request: a target
 * that does not know the session cannot seal. If the header is damaged, it is an arbitrary number.
 * The error field means nothing in a request.
 */
export function getSealedOfRequest(frame: Uint8Array): number {
  return getU16(frame, AtaArgument.reserved) ^ crcOf(frame, AOE_VERSION << 4, 0);
}

/** Fewest bits in a sealed field: three flipped bits cannot make it zero. */
const fewestBits = 4;

/** True if a few flipped bits could make zero of the field of this message. */
export function isWeak(frame: Uint8Array): boolean {
  let bits = 0;
  for (let field = getU16(frame, AtaArgument.reserved); field !== 0; field &= field - 1) bits++;
  return bits < fewestBits;
}
