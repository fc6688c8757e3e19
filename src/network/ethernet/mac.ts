/** Ethernet addresses ("MAC addresses", IEEE 802-2014 section 8): six bytes. */

/** An address: 6 bytes in transmission order. Must not be changed by its holders. */
export type Mac = Uint8Array;

/** The broadcast address, which means all stations of a segment. */
export const broadcastMac: Mac = new Uint8Array(6).fill(0xff);

const form = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/**
 * Parses an address such as "02:00:00:00:00:01", with colons or hyphens. Returns undefined if it is
 * not one.
 */
export function parseMac(text: string): Mac | undefined {
  if (!form.test(text)) return undefined;
  return Uint8Array.from(text.split(/[:-]/), (part) => Number.parseInt(part, 16));
}

/** The text of a MAC address: "02:00:00:00:00:01". */
export function formatMac(mac: Mac): string {
  return Array.from(mac.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** A random unicast address that is locally administered, so it cannot equal a manufacturer's. */
export function randomMac(): Mac {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}

/** True if the address at byte `at` is a group address: multicast or broadcast. */
export function isGroup(bytes: Uint8Array, at = 0): boolean {
  return (bytes[at]! & 1) !== 0;
}

/** The address at byte `at` as a number, which is a key for maps and quick to compare. */
export function macKey(bytes: Uint8Array, at = 0): number {
  const high = (bytes[at]! << 8) | bytes[at + 1]!;
  const low = ((bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!) >>> 0;
  return high * 0x1_0000_0000 + low;
}
