/** Making contact with a target: who answers for its shelf and slot, a session where there are such, what disk it is. */
import { FarbusError } from '../../../base/errors.js';
import { broadcastMac, macKey, type Mac } from '../../../network/ethernet/mac.js';
import { parseIdentify, type DiskFacts } from '../identify.js';
import { getGrant, putOpening, sessionFrameSize, type SessionGrant, type SessionOpening } from '../session.js';
import { AoeCommand, AoeError, AtaArgument, AtaCommand, AtaStatus, Flag, Header, sectorSize } from '../spec.js';
import { configQuery, flagsOf, getConfig, minFrame, putAta, putHeader } from '../wire.js';
import { aoeErrorText } from './errors.js';
import type { Messenger } from './messenger.js';

export interface Contact {
  readonly mac: Mac;
  readonly key: number;
  /** Messages that the target can hold. */
  readonly bufferCount: number;
  /** Most sectors of one message. */
  readonly sectors: number;
  /** Undefined: the target has no sessions of ours. */
  readonly grant: SessionGrant | undefined;
  readonly disk: DiskFacts;
}

export interface ContactOptions {
  readonly shelf: number;
  readonly slot: number;
  /** The initiator's address. */
  readonly mac: Mac;
  /** What session is wanted; undefined: none. */
  readonly opening: SessionOpening | undefined;
  /** The target is known to have sessions: it is asked for one until it answers. */
  readonly sessions: boolean;
  readonly signal: AbortSignal;
  /** A pause between queries for a target that does not answer, in ms. */
  readonly queryMs: number;
  /** The config query was answered: it is there. */
  readonly onFound?: () => void;
}

/** Copies of a question to a target that has answered just now, and the pause between them in ms. */
const copies = 20;
const everyMs = 100;
/** Copies of the opening of a session: targets of others may not answer to it at all. */
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
        const frame = new Uint8Array(Math.max(minFrame, sessionFrameSize));
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

/** In what a target is not the one that requests wait for, whose messages had `oldSectors` sectors at most. */
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
