/**
 * The byte range that an ATA command addresses, and two commands that work on ranges: READ VERIFY
 * and DATA SET MANAGEMENT.
 */
import { buffersOf } from '../../base/buffers.js';
import type { BlockDevice, RequestOptions } from '../../block/device.js';
import { AtaCommandError } from './error.js';
import { AtaError, dsmEntrySize, type SectorCommand, type TaskFile } from '../../spec/ata.js';
import type { DeviceCommand } from './sata-device.js';
import { diskLimits } from './settings.js';
import { Sense } from '../../spec/scsi.js';

/** A byte range of the medium. */
export interface SectorRange {
  readonly offset: number;
  readonly length: number;
  /** Force unit access: durable when answered. */
  readonly fua: boolean;
}

/** Device register: bit 6 means that the address is an LBA; bit 7 of a queued command is FUA. */
const lbaBit = 0x40;
const queuedFuaBit = 0x80;

/**
 * The range that a command of this kind addresses (ATA8-ACS 7.1.5).
 * @throws AtaCommandError if the range is not on the medium
 */
export function sectorRange(disk: BlockDevice, file: TaskFile, kind: SectorCommand): SectorRange {
  if (kind.queued) {
    // SATA 3.0 §13.6.4: queued commands have the count in the features field, and the tag in the
    // count field.
    return checked(disk, file.lba, file.features || 0x10000, (file.device & queuedFuaBit) !== 0);
  }
  if ((file.device & lbaBit) === 0) throw new AtaCommandError(AtaError.abort);
  if (kind.wide) return checked(disk, file.lba, file.count || 0x10000, kind.fua);
  const lba = (file.device & 0xf) * 0x1000000 + (file.lba % 0x1000000);
  return checked(disk, lba, file.count & 0xff || 256, false);
}

/** ATA8-ACS 7.35 READ VERIFY SECTOR(S): reads the sectors and discards the data. */
export async function verify(disk: BlockDevice, range: SectorRange, options: RequestOptions): Promise<void> {
  const piece = buffersOf(new Uint8Array(Math.min(range.length, 1 << 18)));
  for (let done = 0; done < range.length; done += piece.length) {
    await disk.read(range.offset + done, piece.slice(0, Math.min(piece.length, range.length - done)), options);
  }
}

/** ATA8-ACS 7.10 (ACS-2 7.5) DATA SET MANAGEMENT. Only its TRIM bit is supported. */
export async function dataSetManagement(disk: BlockDevice, command: DeviceCommand): Promise<void> {
  const { file, options } = command;
  const trim = (file.features & 1) !== 0;
  if (!disk.info.can.trim || !trim) throw new AtaCommandError(AtaError.abort);
  if (disk.info.readOnly) throw new AtaCommandError(AtaError.abort, Sense.writeProtected);
  if (file.count === 0 || file.count > diskLimits.trimBlocks) throw new AtaCommandError(AtaError.abort);
  const table = new Uint8Array(file.count * 512);
  command.fromHost(table.length).copyTo(table, 0);
  const view = new DataView(table.buffer);
  const ranges: { offset: number; length: number }[] = [];
  for (let at = 0; at < table.length; at += dsmEntrySize) {
    const count = view.getUint16(at + 6, true);
    if (count === 0) continue;
    const lba = view.getUint32(at, true) + view.getUint16(at + 4, true) * 0x100000000;
    const { offset, length } = checked(disk, lba, count, false);
    const last = ranges.at(-1);
    // A run of more than 65535 sectors comes as several adjacent entries; join them into one range.
    if (last && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  }
  for (const { offset, length } of ranges) await disk.trim(offset, length, options);
}

function checked(disk: BlockDevice, lba: number, count: number, fua: boolean): SectorRange {
  const sector = Math.max(512, disk.info.blockSize);
  if (!(lba + count <= Math.floor(disk.info.size / sector))) {
    throw new AtaCommandError(AtaError.idNotFound, Sense.lbaOutOfRange);
  }
  return { offset: lba * sector, length: count * sector, fua };
}
