/**
 * INQUIRY data (SPC-3 6.4) and vital product data pages (7.6) of a packet device.
 */
import { putAscii } from './ascii.js';
import type { AtaIdentity } from './ata-identify.js';
import { DeviceType } from './scsi.js';

const vendor = 'FARBUS';

/** SPC-3 6.4.2 Standard INQUIRY data, 36 bytes. */
export function inquiry(deviceType: number, identity: AtaIdentity): Uint8Array {
  const data = new Uint8Array(36);
  data[0] = deviceType;
  data[1] = 0x80; // removable
  data[2] = 5; // SPC-3
  data[3] = 2; // response data format
  data[4] = data.length - 5;
  putAscii(data, 8, 8, vendor);
  putAscii(data, 16, 16, identity.model);
  putAscii(data, 32, 4, identity.firmware);
  return data;
}

/** The facts about a unit that its vital product data reports. */
export interface VitalFacts {
  readonly deviceType: number;
  readonly identity: AtaIdentity;
  readonly rotational: boolean;
}

/**
 * Vital product data: pages 00h, 80h and 83h, and for a disk B0h and B1h as well. Returns undefined
 * for other pages.
 */
export function vitalProductData(facts: VitalFacts, page: number): Uint8Array | undefined {
  const { deviceType } = facts;
  const content = contentOf(facts, page);
  if (!content) return undefined;
  return Uint8Array.of(deviceType, page, content.length >> 8, content.length, ...content);
}

function contentOf({ deviceType, identity, rotational }: VitalFacts, page: number): Uint8Array | undefined {
  const disk = deviceType === DeviceType.direct;
  switch (page) {
    case 0x00:
      return Uint8Array.of(0x00, 0x80, 0x83, ...(disk ? [0xb0, 0xb1] : []));
    case 0x80: {
      const serial = new Uint8Array(20);
      putAscii(serial, 0, 20, identity.serial);
      return serial;
    }
    case 0x83:
      // 7.6.3: a binary NAA identifier of the logical unit.
      return Uint8Array.of(0x01, 0x03, 0, 8, ...identity.worldWideName.subarray(0, 8));
    case 0xb0:
      // SBC-3 6.5.3 Block limits: zero means "not reported". UNMAP is not supported.
      return disk ? new Uint8Array(60) : undefined;
    case 0xb1: {
      // SBC-3 6.5.2: 1 for a medium that does not rotate, 0 if the rotation rate is not reported.
      const characteristics = new Uint8Array(60);
      characteristics[1] = rotational ? 0 : 1;
      return disk ? characteristics : undefined;
    }
    default:
      return undefined;
  }
}
