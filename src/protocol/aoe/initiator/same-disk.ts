/**
 * Checks that a target found again has the same disk: by the disk's world wide name if both sides
 * have told one, else by its content (block/witness.ts). In AoE a serial number usually identifies
 * the target, not the disk.
 *
 * The reads are questions (messenger.ts), apart from the commands that wait. [AoE] 3.1.
 */
import type { Buffers } from '../../../base/buffers.js';
import { BlockError } from '../../../block/errors.js';
import type { ContentWitness } from '../../../block/witness.js';
import type { Mac } from '../../../network/ethernet/mac.js';
import { AtaCommand, AtaStatus, sectorSize } from '../../../spec/ata.js';
import { otherContent } from '../../remote/same-disk.js';
import { AoeCommand, AtaArgument, AtaFlag, Flag, Header } from '../spec.js';
import { flagsOf, getAta, minFrame, putAta, putHeader } from '../wire.js';
import type { Contact } from './contact.js';
import type { Messenger } from './messenger.js';

/** Maximum copies of a question, and the interval between them in ms. */
const copies = 20;
const everyMs = 100;

/** The target's address, and how to send to it. */
export interface Place {
  readonly shelf: number;
  readonly slot: number;
  /** MAC address of the initiator. */
  readonly mac: Mac;
  /** Maximum number of sectors in one message. */
  readonly sectors: number;
}

/**
 * @param before the world wide name of the disk before, or ''
 * @returns Why the disk is not accepted as the same; undefined if it is the same.
 * @throws Error if the target does not answer, or the signal's reason
 */
export async function otherDisk(
  witness: ContentWitness,
  messenger: Messenger,
  contact: Contact,
  place: Place,
  signal: AbortSignal,
  before: string,
): Promise<string | undefined> {
  const name = contact.disk.worldWideName;
  if (before !== '' && name !== '') {
    return name === before ? undefined : `another disk has its address: world wide name ${name} instead of ${before}`;
  }
  const read = async (offset: number, into: Buffers): Promise<void> => {
    const end = (offset + into.length) / sectorSize;
    for (let lba = offset / sectorSize; lba < end; lba += place.sectors) {
      const count = Math.min(place.sectors, end - lba);
      const data = await readSectors(messenger, contact, place, lba, count, signal);
      into.copyFrom(data, lba * sectorSize - offset);
    }
  };
  return otherContent(witness, read, 'address');
}

async function readSectors(
  messenger: Messenger,
  { mac: to, disk }: Contact,
  { shelf, slot, mac }: Place,
  lba: number,
  count: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const flags = disk.lba48 ? AtaFlag.extended | AtaFlag.device : AtaFlag.device;
  const command = disk.lba48 ? AtaCommand.readSectorsExt : AtaCommand.readSectors;
  const length = count * sectorSize;
  const answer = await messenger.ask(
    (tag) => {
      const frame = new Uint8Array(minFrame);
      putHeader(frame, to, mac, { shelf, slot, command: AoeCommand.ata, tag });
      // Outside of the session: the tag of a question is not in its sequence, and a read needs no
      // fence.
      putAta(frame, { flags, feature: 0, count, command, lba, generation: 0 });
      return frame;
    },
    (frame) => {
      if (frame[Header.command] !== AoeCommand.ata) return undefined;
      if (flagsOf(frame) & Flag.error) return { data: undefined };
      // A turned bit in the question or the answer: ask again.
      if (frame.length >= AtaArgument.size && getAta(frame).lba !== lba) return undefined;
      if (frame.length < AtaArgument.size || frame[AtaArgument.command]! & AtaStatus.error) return { data: undefined };
      if (frame.length < AtaArgument.size + length) return undefined;
      return { data: frame.slice(AtaArgument.size, AtaArgument.size + length) };
    },
    { signal, everyMs, copies },
  );
  if (!answer) throw new BlockError('unreachable', 'it does not answer while its content is checked');
  if (!answer.data) throw new BlockError('io', 'it cannot read a block');
  return answer.data;
}
