/**
 * A channel: one connection to a server over which requests to one device go, whatever the far side understands (a shell
 * that runs dd, an SFTP server). The pool (pool.ts) keeps several, and what is lost with one goes over the next.
 */
import type { BlockError } from '../../block/errors.js';
import { compareIdentity, type DiskMarks } from '../../block/identity.js';
import type { Fate, Mark } from '../../block/life.js';
import type { RemoteRequest } from './request.js';

/** What a channel found out about the server and the device when it was opened. */
export interface RemoteFacts {
  /** Which computer it is, and which start of its system; '' where that cannot be known. */
  readonly machine: string;
  readonly boot: string;
  /** By what the disk is recognised (block/identity.ts); none if the server tells nothing. */
  readonly marks: DiskMarks;
  /** In bytes. */
  readonly size: number;
  /** Logical block of a disk, in bytes; undefined for a file. */
  readonly sector: number | undefined;
  readonly readOnly: boolean;
  /** A flush reaches the medium. */
  readonly flush: boolean;
  /** What the server itself uses the device for at the time ("mounted"); '' for nothing that is known. */
  readonly used: string;
}

/** Longest fact of a server that a mark keeps, in characters. */
const maxFact = 256;

export interface ChannelEvents {
  /** The server answered a request; without an error it was carried out. */
  answered(request: RemoteRequest, error?: BlockError): void;
  /** These are to be run again. None of them is being carried out. */
  again(requests: readonly RemoteRequest[]): void;
  /** There may be room for more. */
  room(): void;
  /** The connection is gone; the last event. `unfinished`: what was sent and not answered. */
  lost(reason: string, unfinished: readonly RemoteRequest[]): void;
}

export interface Channel {
  readonly facts: RemoteFacts;
  /** By what a later channel, of this process or of the next one, finds what this one leaves on the server. */
  readonly mark: Mark;
  /** Requests that were sent and not answered. */
  readonly load: number;
  hasRoom(request: RemoteRequest): boolean;
  start(events: ChannelEvents): void;
  send(request: RemoteRequest): void;
  /**
   * Makes sure that another, lost channel with that mark cannot write any more: ends what it left on the server and waits
   * until it is gone. Rejects where this did not come to an end: it is to be tried again. The mark may be forged.
   */
  fence(mark: Mark): Promise<Fate>;
  /** Ends in good order, when nothing is under way. */
  close(): Promise<void>;
  /** Ends at once. {@link ChannelEvents.lost} is still called. */
  destroy(): void;
}

/** Opens a channel. Rejects with an error whose message is fit for a user. */
export type ChannelOpener = (signal: AbortSignal) => Promise<Channel>;

/** What every mark has of the server that the channel was to. */
export function markOfServer({ machine, boot }: RemoteFacts): { machine: string; boot: string } {
  return { machine: machine.slice(0, maxFact), boot: boot.slice(0, maxFact) };
}

/** Whether the server's system was started anew since a channel had that mark: nothing that it left can write. */
export function startedAnew({ machine, boot }: Mark, now: RemoteFacts): boolean {
  const then = markOfServer(now);
  return boot !== '' && then.boot !== '' && machine === then.machine && boot !== then.boot;
}

/** Whether the marks prove that it is the same disk, so that its content need not be looked at. */
export function provenSame(first: RemoteFacts, later: RemoteFacts): boolean {
  const { size } = first;
  return compareIdentity({ size, marks: first.marks }, { size, marks: later.marks }).verdict === 'same';
}

/** What of the facts that were given out a later channel no longer keeps, for a message; undefined where it keeps them all. */
export function breachOf(first: RemoteFacts, later: RemoteFacts): string | undefined {
  if (first.machine !== later.machine) return 'another computer answers';
  const { size } = first;
  // A disk may grow; whether it is still the same one, its marks tell.
  const { verdict, why } = compareIdentity({ size, marks: first.marks }, { size, marks: later.marks });
  if (verdict === 'other') return `it is ${why}`;
  const grown = later.size > size && verdict === 'same';
  if (later.size !== size && !grown) return `the device has ${later.size} bytes and had ${size}`;
  if (later.sector !== first.sector) return `its blocks have ${later.sector ?? 1} bytes and had ${first.sector ?? 1}`;
  if (later.readOnly && !first.readOnly) return 'the device has become read-only';
  if (first.flush && !later.flush) return 'it can no longer be flushed';
  return undefined;
}
