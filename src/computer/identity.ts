/**
 * The identity of a logical device: serial number, model and unique names. The same bytes give the
 * same identity, whichever server and protocol they come from, so that a guest's /dev/disk/by-id
 * does not change. docs/run.md has the rule.
 */
import { hexOf } from '../base/hex.js';
import { Deadline } from '../base/deadline.js';
import { FarbusError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { BlockDevice } from '../block/device.js';
import type { AtaIdentity } from '../spec/ata-identify.js';
import type { NvmeIdentity } from '../spec/nvme-identify.js';
import { contentIdentity } from '../probe/identity.js';

/** Identity given by the user: ASCII, at most 20 characters for `serial` and 40 for `model`. */
export interface SaidIdentity {
  /** Serial number that the guest sees. Default: from the disk's bytes. */
  readonly serial?: string | undefined;
  /** Model name that the guest sees. Default: "Farbus NVMe Disk" and the like. */
  readonly model?: string | undefined;
}

/**
 * The identity that any controller reports. Restoring a snapshot replaces its values by those of
 * the snapshot.
 */
export interface DriveIdentity extends NvmeIdentity, AtaIdentity {
  /** The identifying content of the remote device (probe/identity.ts); '' if there is none. */
  readonly content: string;
}

/** The facts that determine a drive's identity. */
export interface Identified extends SaidIdentity {
  readonly index: number;
  /** `disk` for a fixed disk; the others have media that change. */
  readonly kind: 'disk' | 'cdrom' | 'removable';
  readonly device: BlockDevice | undefined;
  /** Model name if the user has not given one. */
  readonly ownModel: string;
}

/** Time limit for reading the identity of one remote device, in ms. */
const lookMs = 60_000;

/**
 * The identities of a computer's drives, in their order. Among drives with equal identities, the
 * position tells the second and later ones apart.
 * @throws FarbusError if the user has given one serial number to two drives
 */
export async function identifyDrives(drives: readonly Identified[], log: Logger): Promise<DriveIdentity[]> {
  const contents = await Promise.all(drives.map((drive) => contentOf(drive, log)));
  const before = new Map<string, number[]>();
  return drives.map((drive, i) => {
    const content = contents[i]!;
    const key = keyOf(drive, content);
    const same = before.get(key) ?? [];
    if (same.length > 0 && drive.serial !== undefined) {
      throw new FarbusError(`drives ${same[0]!} and ${drive.index} have the same serial number: give them two`);
    }
    before.set(key, [...same, drive.index]);
    const own = same.length === 0 ? key : `${key}\0${same.length + 1}`;
    return identity(own, content, drive);
  });
}

/** The identity of one device that is the only drive. */
export async function identifyDevice(device: BlockDevice, log: Logger): Promise<DriveIdentity> {
  const [found] = await identifyDrives([{ index: 0, kind: 'disk', device, ownModel: '' }], log);
  return found!;
}

/**
 * The identifying content. It is '' for a CD-ROM drive, whose disc does not identify the drive, and
 * for an empty drive. If reading fails, it is '' as well, and the device is identified by its name.
 */
async function contentOf({ index, kind, device }: Identified, log: Logger): Promise<string> {
  if (!device || kind === 'cdrom') return '';
  const limit = new Deadline(lookMs);
  const late = new Promise<never>((_, reject) => {
    limit.signal.addEventListener('abort', () => reject(new Error(`no answer within ${lookMs / 1000} s`)));
  });
  try {
    return (await Promise.race([contentIdentity(device, { signal: limit.signal }), late])) ?? '';
  } catch (error) {
    log.log('warn', `drive ${index} cannot be read: ${messageOf(error)}; its serial number follows from its name`);
    return '';
  } finally {
    limit.end();
  }
}

function keyOf({ index, kind, device, serial }: Identified, content: string): string {
  if (serial !== undefined) return `serial\0${serial}`;
  if (content !== '') return `content\0${content}`;
  const name = kind === 'cdrom' ? '' : (device?.info.identity ?? '');
  return name === '' ? `place\0${index}` : `name\0${name}`;
}

function identity(key: string, content: string, { serial, model, ownModel }: Identified): DriveIdentity {
  const hash = hash128(key);
  const uuid = hash.slice();
  uuid[6] = (uuid[6]! & 0x0f) | 0x80; // RFC 9562 §5.8: version 8, custom
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return {
    serial: serial ?? hexOf(hash.subarray(0, 10)),
    model: model ?? ownModel,
    firmware: '1.0',
    uuid,
    worldWideName: worldWideName(uuid),
    content,
  };
}

/** World wide name for ATA, of a kind that is not centrally assigned (NAA 3h, SPC-3 7.6.3.6.4). */
export function worldWideName(uuid: Uint8Array): Uint8Array {
  const name = uuid.slice(0, 8);
  name[0] = 0x30 | (name[0]! & 0x0f);
  return name;
}

/**
 * A 128-bit hash: FNV-1a in four lanes with different starts. It only spreads names; it is not
 * cryptographic.
 */
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
