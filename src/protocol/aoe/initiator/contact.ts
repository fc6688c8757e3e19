/**
 * Makes contact with a target: finds the MAC address of its shelf and slot, opens a session if the
 * target has sessions, and reads IDENTIFY.
 */
import { FarbusError } from '../../../base/errors.js';
import { broadcastMac, macKey, type Mac } from '../../../network/ethernet/mac.js';
import { isWhole, parseIdentify, type DiskFacts } from '../identify.js';
import {
  getGrant,
  putOpening,
  repeatsOpening,
  sessionFrameSize,
  type SessionGrant,
  type SessionOpening,
} from '../session.js';
import { AtaCommand, AtaStatus, sectorSize } from '../../../spec/ata.js';
import { AoeCommand, AoeError, AtaArgument, Flag, Header } from '../spec.js';
import { configQuery, flagsOf, getConfig, minFrame, putAta, putHeader } from '../wire.js';
import { aoeErrorText } from './errors.js';
import type { Messenger } from './messenger.js';

/** A target that has answered: its address, its limits, the session and the disk. */
export interface Contact {
  readonly mac: Mac;
  readonly key: number;
  /** Number of messages that the target can queue. */
  readonly bufferCount: number;
  /** Maximum number of sectors in one message. */
  readonly sectors: number;
  /** Undefined if the target has no Farbus sessions. */
  readonly grant: SessionGrant | undefined;
  readonly disk: DiskFacts;
}

export interface ContactOptions {
  readonly shelf: number;
  readonly slot: number;
  /** MAC address of the initiator. */
  readonly mac: Mac;
  /** The session to open; undefined for none. */
  readonly opening: SessionOpening | undefined;
  /** The target is known to have sessions: repeat the opening until it is answered. */
  readonly sessions: boolean;
  readonly signal: AbortSignal;
  /** Interval between queries for a target that does not answer, in ms. */
  readonly queryMs: number;
  /** Called when the target has answered the config query. */
  readonly onFound?: () => void;
}

/** Maximum copies of a question to a target that has just answered, and their interval in ms. */
const copies = 20;
const everyMs = 100;
/** Maximum copies of a session opening: a target without sessions may not answer it at all. */
const openingCopies = 8;

/** Rejects with a FarbusError, or with the signal's reason. */
export async function makeContact(messenger: Messenger, options: ContactOptions): Promise<Contact> {
  const { shelf, slot, mac, signal } = options;
  const found = await messenger.ask(
    (tag) => configQuery(broadcastMac, mac, shelf, slot, tag),
    (answer) => {
      if (answer[Header.command] !== AoeCommand.config) return undefined;
      if (flagsOf(answer) & Flag.error) throw refused(answer);
      const config = getConfig(answer);
      return config && { ...config, mac: answer.slice(6, 12) };
    },
    { signal, everyMs: options.queryMs },
  );
  if (!found) throw new FarbusError('it does not answer');
  options.onFound?.();
  const to = found.mac;
  const header = (command: number, tag: number): { shelf: number; slot: number; command: number; tag: number } => ({
    shelf,
    slot,
    command,
    tag,
  });

  const { opening } = options;
  const opened =
    opening &&
    (await messenger.ask(
      (tag) => {
        const frame = new Uint8Array(sessionFrameSize);
        putHeader(frame, to, mac, header(AoeCommand.session, tag));
        putOpening(frame, opening);
        return frame;
      },
      (answer) => {
        if (answer[Header.command] !== AoeCommand.session) return undefined;
        if (!(flagsOf(answer) & Flag.error)) {
          const grant = getGrant(answer);
          const ours = grant?.nonce.every((byte, index) => byte === opening.nonce[index]);
          return ours ? { grant } : undefined;
        }
        if (!repeatsOpening(answer, opening) || answer[Header.error] === AoeError.badVersion) return undefined;
        if (answer[Header.error] === AoeError.reserved) throw refused(answer);
        return { grant: undefined };
      },
      { signal, everyMs, copies: options.sessions ? Infinity : openingCopies },
    ));

  const disk = await messenger.ask(
    (tag) => {
      const frame = new Uint8Array(minFrame);
      putHeader(frame, to, mac, header(AoeCommand.ata, tag));
      putAta(frame, { flags: 0, feature: 0, count: 1, command: AtaCommand.identify, lba: 0, generation: 0 });
      return frame;
    },
    (answer) => {
      if (answer[Header.command] !== AoeCommand.ata) return undefined;
      if (flagsOf(answer) & Flag.error) throw refused(answer);
      if (answer.length < AtaArgument.size) return undefined;
      if (answer[AtaArgument.command]! & AtaStatus.error) throw new FarbusError('it does not identify its disk');
      if (answer.length < AtaArgument.size + sectorSize) return undefined;
      // Other targets may pass on the data of a disk that they have changed.
      if (opened?.grant?.sealed && !isWhole(answer.subarray(AtaArgument.size))) return undefined;
      const facts = parseIdentify(answer.subarray(AtaArgument.size, AtaArgument.size + sectorSize));
      if (typeof facts === 'string') throw new FarbusError(facts);
      return facts;
    },
    { signal, everyMs, copies },
  );
  if (!disk) throw new FarbusError('it does not answer when it is asked for its disk');
  const { bufferCount, sectors } = found;
  return { mac: to, key: macKey(to), bufferCount: Math.max(1, bufferCount), sectors, grant: opened?.grant, disk };
}

/**
 * How a target differs from the one that requests wait for; undefined if they may go on.
 * `oldSectors`: maximum sectors of the messages in use.
 */
export function breachOf(old: Contact, { disk, grant, sectors }: Contact, oldSectors: number): string | undefined {
  if (disk.sectors !== old.disk.sectors) return `${disk.sectors} sectors instead of ${old.disk.sectors}`;
  if (disk.serial !== old.disk.serial) return `serial number ${disk.serial} instead of ${old.disk.serial}`;
  if ((grant === undefined) !== (old.grant === undefined)) return 'another kind of server';
  if (grant?.readOnly && !old.grant?.readOnly) return 'it is read-only now';
  if (sectors < oldSectors) return `${sectors} sectors a message instead of ${oldSectors}`;
  return undefined;
}

function refused(answer: Uint8Array): FarbusError {
  return new FarbusError(`it refuses: ${aoeErrorText(answer[Header.error]!)}`);
}
