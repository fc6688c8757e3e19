/**
 * The interface of a channel: one connection to a server, over which requests to one device go.
 * The far side may be a shell that runs dd (protocol/dd, rsh) or an SFTP server (protocol/sftp).
 *
 * The pool (pool.ts) keeps several channels and moves the requests of a lost one to another.
 */
import type { BlockError } from '../../block/errors.js';
import { compareIdentity, type DiskMarks } from '../../block/identity.js';
import type { Fate, FenceKey } from '../../block/life.js';
import type { RemoteRequest } from './request.js';

/** The facts about the server and the device that a channel finds when it is opened. */
export interface RemoteFacts {
  /** The computer's id, and the id of the current boot of its system; '' if unknown. */
  readonly machine: string;
  readonly boot: string;
  /**
   * The marks by which the disk is recognised (block/identity.ts). Empty if the server reports
   * none.
   */
  readonly marks: DiskMarks;
  /** In bytes. */
  readonly size: number;
  /** Logical block size of a disk, in bytes; undefined for a file. */
  readonly sector: number | undefined;
  readonly readOnly: boolean;
  /** True if a flush reaches the medium. */
  readonly flush: boolean;
  /** The current use of the device by the server itself ("mounted"); '' if none is known. */
  readonly used: string;
}

/** Longest text from a server that is kept in a fence key, in characters. */
const maxFact = 256;

export interface ChannelEvents {
  /** The server has answered a request. Without an error it was carried out. */
  answered(request: RemoteRequest, error?: BlockError): void;
  /** These requests must be sent again. None of them is being carried out. */
  again(requests: readonly RemoteRequest[]): void;
  /** The channel may have room for more requests. */
  room(): void;
  /** The connection is lost. This is the last event. `unfinished` are the unanswered requests. */
  lost(reason: string, unfinished: readonly RemoteRequest[]): void;
}

export interface Channel {
  readonly facts: RemoteFacts;
  /**
   * Identifies the processes that this channel leaves on the server, for a later channel of this
   * process or the next one, which fences them.
   */
  readonly fenceKey: FenceKey;
  /** The number of requests that were sent and not answered. */
  readonly load: number;
  hasRoom(request: RemoteRequest): boolean;
  start(events: ChannelEvents): void;
  send(request: RemoteRequest): void;
  /**
   * Makes sure that a lost channel with that key can no longer write: ends the processes that it
   * left on the server, and waits until they are gone. Rejects if that is not complete: try again.
   * The key comes from a file and may be forged.
   */
  fence(key: FenceKey): Promise<Fate>;
  /** Ends the connection properly. No request may be in flight. */
  close(): Promise<void>;
  /** Ends the connection immediately. {@link ChannelEvents.lost} is still called. */
  destroy(): void;
}

/** Opens a channel. Rejects with an error whose message is for users. */
export type ChannelOpener = (signal: AbortSignal | undefined) => Promise<Channel>;

/** The part of every fence key that identifies the server. */
export function keyPartOfServer({ machine, boot }: RemoteFacts): { machine: string; boot: string } {
  return { machine: machine.slice(0, maxFact), boot: boot.slice(0, maxFact) };
}

/**
 * True if the server's system has been restarted since a channel had that key. Then no process of
 * that channel is left.
 */
export function startedAnew({ machine, boot }: FenceKey, now: RemoteFacts): boolean {
  const then = keyPartOfServer(now);
  return boot !== '' && then.boot !== '' && machine === then.machine && boot !== then.boot;
}

/**
 * Names the first fact that a later channel contradicts, for a message; undefined if it matches.
 */
export function breachOf(first: RemoteFacts, later: RemoteFacts): string | undefined {
  if (first.machine !== later.machine) return 'another computer answers';
  const { size } = first;
  // A disk may grow. Its marks tell whether it is still the same one.
  const { verdict, why } = compareIdentity({ size, marks: first.marks }, { size, marks: later.marks });
  if (verdict === 'other') return `it is ${why}`;
  const grown = later.size > size && verdict === 'same';
  if (later.size !== size && !grown) return `the device has ${later.size} bytes and had ${size}`;
  if (later.sector !== first.sector) return `its blocks have ${later.sector ?? 1} bytes and had ${first.sector ?? 1}`;
  if (later.readOnly && !first.readOnly) return 'the device has become read-only';
  if (first.flush && !later.flush) return 'it can no longer be flushed';
  return undefined;
}
