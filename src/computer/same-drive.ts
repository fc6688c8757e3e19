/** Whether a computer goes on from a snapshot with the drives that it had, and as whom they go on. */
import type { BlockInfo } from '../block/device.js';
import { SnapshotError, type SnapshotDrive } from '../machine/snapshot.js';
import { worldWideName, type DriveIdentity, type SaidIdentity } from './identity.js';

/** What a snapshot keeps of a drive. @param info Of its medium; undefined for an empty one. */
export function driveFacts(info: BlockInfo | undefined, identity: DriveIdentity): SnapshotDrive {
  const { size = 0, blockSize = 0, readOnly = false, identity: name = '' } = info ?? {};
  const { serial, model, uuid, content } = identity;
  return { size, blockSize, readOnly, identity: name, content, shown: { serial, model, uuid: hex(uuid) } };
}

/**
 * The same bytes: by the name of the far device, whatever has been written on it since, or by what is on it, whoever
 * serves it now. @throws SnapshotError where a drive is neither, or has another form.
 */
export function checkSame(then: SnapshotDrive, now: SnapshotDrive, index: number): void {
  const sectors = sectorOf(then.blockSize) === sectorOf(now.blockSize);
  if (then.size !== now.size || !sectors || then.readOnly !== now.readOnly) {
    throw new SnapshotError(`drive ${index} is another than it was: ${now.size} bytes, then ${then.size}`);
  }
  const sameContent = then.content !== '' && then.content === now.content;
  if (then.identity !== now.identity && !sameContent) throw new SnapshotError(`drive ${index} is another than it was`);
}

/**
 * Makes a drive say what it said: the guest has it by that name. @param said By the user, now.
 * @throws SnapshotError where the user says something else.
 */
export function goOnAs(identity: DriveIdentity, shown: SnapshotDrive['shown'], said: SaidIdentity & { index: number }) {
  const { serial, model } = shown;
  if ((said.serial ?? serial) !== serial || (said.model ?? model) !== model) {
    throw new SnapshotError(`drive ${said.index} was started as ${model}, serial number ${serial}`);
  }
  const uuid = bytes(shown.uuid);
  Object.assign(identity, { serial, model, uuid, worldWideName: worldWideName(uuid) } satisfies Partial<DriveIdentity>);
}

/** The sectors that a guest sees on blocks of `blockSize` bytes, which a server may make smaller; 0 for an empty drive. */
function sectorOf(blockSize: number): number {
  return blockSize === 0 ? 0 : Math.max(512, blockSize);
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function bytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new SnapshotError('its header is damaged');
  return Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}
