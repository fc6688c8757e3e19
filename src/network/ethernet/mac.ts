/** Ethernet addresses ("MAC addresses", IEEE 802-2014 section 8): six bytes. */

/** An address: 6 bytes, in the order of transmission. Not to be changed by who holds one. */
export type Mac = Uint8Array;

/** All stations of a segment. */
export const broadcastMac: Mac = new Uint8Array(6).fill(0xff);

const form = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/** "02:00:00:00:00:01", with colons or hyphens, as an address; undefined where it is none. */
export function parseMac(text: string): Mac | undefined {
  if (!form.test(text)) return undefined;
  return Uint8Array.from(text.split(/[:-]/), (part) => Number.parseInt(part, 16));
}

export function formatMac(mac: Mac): string {
  return Array.from(mac.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** A random address of one station, locally administered: it is no manufacturer's. */
export function randomMac(): Mac {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}

/** Whether an address, at byte `at`, means several stations: multicast, broadcast included. */
export function isGroup(bytes: Uint8Array, at = 0): boolean {
  return (bytes[at]! & 1) !== 0;
}

/** The address at byte `at` as a number: a key for maps, and quick to compare. */
export function macKey(bytes: Uint8Array, at = 0): number {
  const high = (bytes[at]! << 8) | bytes[at + 1]!;
  const low = ((bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!) >>> 0;
  return high * 0x1_0000_0000 + low;
}
