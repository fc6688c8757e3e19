/** Who a logical device says it is: from what the far device is, so that a guest's /dev/disk/by-id stays the same across restarts. */
import type { BlockInfo } from '../block/device.js';
import type { AtaIdentity } from '../device/ahci/identify.js';
import type { NvmeIdentity } from '../device/nvme/identify.js';

/** What an identity is made of. */
type Known = Pick<BlockInfo, 'identity' | 'size'>;

/** What a user says instead: ASCII, at most 20 and 40 characters. */
export interface SaidIdentity {
  readonly serial?: string | undefined;
  readonly model?: string | undefined;
}

/**
 * The identity of a logical device in front of a far one; `fallback` where that has none of its own. With a serial number
 * that the user has said, all of it follows from that: it stays the same whatever the far device is.
 */
export function identityOf(
  info: Known,
  fallback: string,
  model = 'Farbus NVMe Disk',
  said: SaidIdentity = {},
): NvmeIdentity {
  const hash = hash128(said.serial === undefined ? `${info.identity || fallback}\0${info.size}` : `\0${said.serial}`);
  const uuid = hash.slice();
  uuid[6] = (uuid[6]! & 0x0f) | 0x80; // RFC 9562 §5.8: version 8, custom
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  const hex = [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return { serial: said.serial ?? hex.slice(0, 20), model: said.model ?? model, firmware: '1.0', uuid };
}

/** The same for a drive on an ATA bus: its world wide name is of the kind that nobody assigns (NAA 3h, SPC-3 7.6.3.6.4). */
export function ataIdentityOf(info: Known, fallback: string, ownModel: string, said?: SaidIdentity): AtaIdentity {
  const { serial, model, firmware, uuid } = identityOf(info, fallback, ownModel, said);
  const worldWideName = uuid.slice(0, 8);
  worldWideName[0] = 0x30 | (worldWideName[0]! & 0x0f);
  return { serial, model, firmware, worldWideName };
}

/** 128 bits of FNV-1a, as four lanes with different starts: spreads names, keeps no secrets. */
function hash128(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const result = new Uint8Array(16);
  const view = new DataView(result.buffer);
  for (let lane = 0; lane < 4; lane++) {
    let hash = (0x811c9dc5 ^ (lane * 0x9e3779b1)) >>> 0;
    for (let round = 0; round < 2; round++) {
      for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
      hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
    }
    view.setUint32(lane * 4, hash);
  }
  return result;
}
