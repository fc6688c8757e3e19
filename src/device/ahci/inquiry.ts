/** INQUIRY data (SPC-3 6.4) and vital product data (7.6) of a packet device. */
import type { AtaIdentity } from './identify.js';

const vendor = 'FARBUS';

/** SPC-3 6.4.2, 36 bytes. */
export function inquiry(deviceType: number, identity: AtaIdentity): Uint8Array {
  const data = new Uint8Array(36);
  data[0] = deviceType;
  data[1] = 0x80; // removable
  data[2] = 5; // SPC-3
  data[3] = 2; // form of this data
  data[4] = data.length - 5;
  ascii(data, 8, 8, vendor);
  ascii(data, 16, 16, identity.model);
  ascii(data, 32, 4, identity.firmware);
  return data;
}

/** Pages 00h, 80h and 83h; undefined for another. */
export function vitalProductData(deviceType: number, identity: AtaIdentity, page: number): Uint8Array | undefined {
  const content = contentOf(identity, page);
  if (!content) return undefined;
  return Uint8Array.of(deviceType, page, content.length >> 8, content.length, ...content);
}

function contentOf(identity: AtaIdentity, page: number): Uint8Array | undefined {
  switch (page) {
    case 0x00:
      return Uint8Array.of(0x00, 0x80, 0x83);
    case 0x80: {
      const serial = new Uint8Array(20);
      ascii(serial, 0, 20, identity.serial);
      return serial;
    }
    case 0x83:
      // 7.6.3: binary, of the logical unit, NAA.
      return Uint8Array.of(0x01, 0x03, 0, 8, ...identity.worldWideName.subarray(0, 8));
    default:
      return undefined;
  }
}

function ascii(data: Uint8Array, at: number, length: number, text: string): void {
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    data[at + i] = code >= 0x20 && code <= 0x7e ? code : 0x20;
  }
}
