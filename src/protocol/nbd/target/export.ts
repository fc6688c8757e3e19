/**
 * The exports of a target, as its connections see them, and what each advertises: flags and block
 * sizes.
 */
import type { BlockDevice } from '../../../block/device.js';
import type { ClientCounters, ExportCounters } from '../../../block/export-counters.js';
import { defaultMaxPayload, TransmissionFlag, type HeaderStyle } from '../spec.js';
import type { SessionMember, SessionRegistry } from '../../../block/sessions.js';

export interface TargetExport {
  /** Name by which clients ask for the export; at most 4096 bytes. */
  readonly name: string;
  /** Description for people; '' for none. */
  readonly description: string;
  /** True if no client may write, even if the device is writable. */
  readonly readOnly: boolean;
  /** Served over TLS only ([NBD] "SELECTIVETLS mode"). */
  readonly tlsOnly?: boolean;
  readonly device: BlockDevice;
  /**
   * The minimum block size that clients are told, in bytes; default: that of `device`, which may
   * accept smaller blocks.
   */
  readonly blockSize?: number;
  readonly sessions: SessionRegistry;
  readonly counters: ExportCounters;
  /** Counters of the connection that uses the export. Default: it is not counted by itself. */
  readonly clientCounters?: ClientCounters;
  /**
   * For the client: the reason why its connection cannot enter the export now. Undefined if it can.
   * @param writes false if the client has said that it will change nothing
   */
  readonly refusal?: (writes: boolean) => string | undefined;
  /**
   * Makes the device ready for a connection that wants to enter; `writes` is false if it will
   * change nothing. Rejects if that is impossible now. Absent if the device is always ready.
   */
  readonly admit?: ((writes: boolean) => Promise<void>) | undefined;
  /**
   * Called when a connection enters transmission on the export, synchronously after the export was
   * found.
   */
  readonly entered?: (connection: SessionMember, writes: boolean) => void;
}

/** The exports of a server, as one connection may see them. */
export interface ExportDirectory {
  /** Finds an export by name; '' is the default export. */
  find(name: string): TargetExport | undefined;
  list(): Iterable<TargetExport>;
  /**
   * For the client: the reason why {@link find} returns undefined although the export exists.
   * Undefined if there is no such export.
   */
  refusal?(name: string): string | undefined;
  /**
   * Reports the client's identity, proved by TLS. Earlier results of {@link find} were for an
   * unknown client.
   * @param client the common name in its certificate, or the user of its key
   * @param names all names that it has proved, including the alternative names of its certificate
   */
  identify?(client: string, names: readonly string[]): void;
}

/** True if writes to the export are refused. */
export function isReadOnly(of: TargetExport): boolean {
  return of.readOnly || of.device.info.readOnly;
}

/**
 * The export's [NBD] "Transmission flags". Only what the device can do is advertised.
 * @param contexts true if metadata contexts were selected or still can be
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
 * The export's [NBD] "Size constraints" that clients are told, in bytes. The minimum is the disk's
 * sector size, because clients that present it as a disk need that. Unaligned requests are served
 * all the same, because clients that never ask for the constraints rely on it.
 */
export function blockSizes(of: TargetExport): { minimum: number; preferred: number; maximum: number } {
  const { preferredSize } = of.device.info;
  const blockSize = of.blockSize ?? of.device.info.blockSize;
  const preferred = Math.min(Math.max(preferredSize, blockSize, 512), defaultMaxPayload);
  return { minimum: blockSize, preferred, maximum: defaultMaxPayload };
}
