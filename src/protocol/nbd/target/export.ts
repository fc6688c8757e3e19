/** What a target serves: exports as its connections see them, and what is advertised of each. */
import type { BlockDevice } from '../../../block/device.js';
import { defaultMaxPayload, TransmissionFlag, type HeaderStyle } from '../spec.js';
import type { SessionRegistry } from './sessions.js';

/** What has happened on an export since it was opened. */
export interface ExportCounters {
  /** Connections that entered transmission. */
  connections: number;
  /** Requests that were begun, refused ones included. */
  requests: number;
  /** Requests that were answered with an error. */
  errors: number;
  /** Bytes sent in replies to reads. */
  bytesRead: number;
  /** Bytes taken from writes that succeeded. */
  bytesWritten: number;
}

export interface TargetExport {
  /** As clients ask for it; at most 4096 bytes. */
  readonly name: string;
  /** For people; '' for none. */
  readonly description: string;
  /** No client may write, whatever the device can. */
  readonly readOnly: boolean;
  /** Served over TLS only ([NBD] "SELECTIVETLS mode"). */
  readonly tlsOnly?: boolean;
  readonly device: BlockDevice;
  /** Told as the minimum block size, in bytes; that of `device` where it is not given. `device` may take smaller ones. */
  readonly blockSize?: number;
  readonly sessions: SessionRegistry;
  readonly counters: ExportCounters;
  /** Told that a connection enters transmission on it, in the same turn in which it was found. */
  readonly entered?: () => void;
}

/** The exports of a server, as one connection may see them. */
export interface ExportDirectory {
  /** By name; '' is the default export. */
  find(name: string): TargetExport | undefined;
  list(): Iterable<TargetExport>;
  /** Why {@link find} gives nothing for a name, where that is not that there is no such export. For the client. */
  refusal?(name: string): string | undefined;
  /**
   * Told who the client is, as TLS has proved it. What was found before that was found by anybody.
   * @param client The common name in its certificate, or the user of its key.
   * @param names All that it has proved: of a certificate, its alternative names too.
   */
  identify?(client: string, names: readonly string[]): void;
}

/** Whether writes are refused on an export. */
export function isReadOnly(of: TargetExport): boolean {
  return of.readOnly || of.device.info.readOnly;
}

/**
 * [NBD] "Transmission flags" of an export: what the device cannot do is not advertised.
 * @param contexts Whether metadata contexts were chosen or still can be.
 */
export function transmissionFlags(of: TargetExport, style: HeaderStyle, contexts: boolean): number {
  const { can, rotational } = of.device.info;
  let flags = TransmissionFlag.hasFlags | TransmissionFlag.sendCache;
  if (can.flush) flags |= TransmissionFlag.sendFlush;
  if (can.fua || can.flush) flags |= TransmissionFlag.sendFua;
  if (rotational) flags |= TransmissionFlag.rotational;
  if (style !== 'simple') flags |= TransmissionFlag.sendDf;
  if (style === 'extended' && contexts) flags |= TransmissionFlag.blockStatusPayload;
  if (can.multiConnection) flags |= TransmissionFlag.canMultiConn;
  if (isReadOnly(of)) return flags | TransmissionFlag.readOnly;
  if (can.trim) flags |= TransmissionFlag.sendTrim;
  return flags | TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero;
}

/**
 * [NBD] "Size constraints" of an export, in bytes, as clients are told. The minimum is the size of the disk's sectors:
 * clients that show it as a disk need to know. Requests that are not aligned to it are served all the same, as clients
 * that never ask for constraints rely on it.
 */
export function blockSizes(of: TargetExport): { minimum: number; preferred: number; maximum: number } {
  const { preferredSize } = of.device.info;
  const blockSize = of.blockSize ?? of.device.info.blockSize;
  const preferred = Math.min(Math.max(preferredSize, blockSize, 512), defaultMaxPayload);
  return { minimum: blockSize, preferred, maximum: defaultMaxPayload };
}
