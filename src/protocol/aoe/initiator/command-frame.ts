/** Encodes a command as an AoE message ([AoE] 2, 3.1). */
import type { Mac } from '../../../network/ethernet/mac.js';
import { sectorSize } from '../../../spec/ata.js';
import { AoeCommand, AtaArgument, AtaFlag } from '../spec.js';
import { isWeak, putSealed } from '../seal.js';
import { minFrame, putAta, putHeader } from '../wire.js';
import type { SentCommand } from './command.js';
import type { Contact } from './contact.js';

/** Addresses and contact for a message. */
export interface Way {
  readonly shelf: number;
  readonly slot: number;
  readonly from: Mac;
  readonly contact: Contact;
}

/** Room for a header. */
const scratch = new Uint8Array(AtaArgument.size);

/** True if the command needs another tag in its sealed session (../seal.ts). */
export function needsOtherTag(command: SentCommand, way: Way): boolean {
  if (!way.contact.grant?.sealed) return false;
  putCommandHeader(scratch, command, way);
  return isWeak(scratch);
}

/**
 * Writes a command into `frame`. Returns its length in bytes, or undefined if the memory of its
 * data has been freed.
 */
export function putCommand(frame: Uint8Array, command: SentCommand, way: Way): number | undefined {
  const length = command.kind === 'write' ? command.count * sectorSize : 0;
  putCommandHeader(frame, command, way);
  try {
    if (length > 0) command.buffers!.copyTo(frame.subarray(AtaArgument.size, AtaArgument.size + length), command.at);
  } catch {
    return undefined;
  }
  const end = AtaArgument.size + length;
  if (end < minFrame) frame.fill(0, end, minFrame);
  return Math.max(end, minFrame);
}

function putCommandHeader(frame: Uint8Array, command: SentCommand, { shelf, slot, from, contact }: Way): void {
  const { kind, lba, count, tag } = command;
  putHeader(frame, contact.mac, from, { shelf, slot, command: AoeCommand.ata, tag });
  let flags: number = contact.disk.lba48 ? AtaFlag.extended | AtaFlag.device : AtaFlag.device;
  if (kind === 'flush') flags &= ~AtaFlag.device;
  if (kind === 'write') flags |= AtaFlag.write;
  const { generation = 0, sealed = false } = contact.grant ?? {};
  putAta(frame, { flags, feature: 0, count, command: command.ata, lba, generation });
  if (sealed) putSealed(frame, generation);
}
