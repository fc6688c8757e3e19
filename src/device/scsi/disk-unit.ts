/**
 * A removable direct-access disk (SBC-3) as a packet device: the commands that it has beyond
 * unit.ts.
 *
 * Left out: UNMAP, FORMAT UNIT.
 */
import { ScsiError, nothing, reply, type ScsiCommand, type Transferred } from './command.js';
import { ScsiUnit } from './unit.js';
import { DeviceType, ModePage, Scsi, Sense } from '../../spec/scsi.js';

const fuaBit = 0x08;

export class DiskUnit extends ScsiUnit {
  readonly deviceType = DeviceType.direct;

  get blockSize(): number {
    return Math.max(512, this.bay.medium?.info.blockSize ?? 512);
  }

  protected own(command: ScsiCommand): Promise<Transferred> | undefined {
    const { cdb } = command;
    switch (cdb.getUint8(0)) {
      case Scsi.read6:
        return this.read(command, cdb.getUint32(0) & 0x1fffff, cdb.getUint8(4) || 256);
      case Scsi.write6:
        return this.#write(command, cdb.getUint32(0) & 0x1fffff, cdb.getUint8(4) || 256, 0);
      case Scsi.write10:
        return this.#write(command, cdb.getUint32(2), cdb.getUint16(7));
      case Scsi.write12:
        return this.#write(command, cdb.getUint32(2), cdb.getUint32(6));
      case Scsi.write16:
        return this.#write(command, Number(cdb.getBigUint64(2)), cdb.getUint32(10));
      case Scsi.verify10:
        return this.#verify(command);
      case Scsi.readFormatCapacities:
        return this.#formatCapacities(command);
      default:
        return undefined;
    }
  }

  /**
   * SBC-3 6.3: WP is in the device-specific parameter. WCE in the caching page is set if writes
   * need a SYNCHRONIZE CACHE to be durable.
   */
  protected modePages(page: number): { pages: Uint8Array; parameter: number } {
    const info = this.bay.medium?.info;
    const parameter = (info?.readOnly ? 0x80 : 0) | 0x10; // WP, DPOFUA
    const caching = new Uint8Array(20);
    caching.set([ModePage.caching, 18, info?.can.flush ? 1 << 2 : 0]);
    const wanted = page === ModePage.caching || page === ModePage.all;
    return { pages: wanted ? caching : new Uint8Array(0), parameter };
  }

  async #write(
    command: ScsiCommand,
    lba: number,
    count: number,
    flags = command.cdb.getUint8(1),
  ): Promise<Transferred> {
    const { offset, length } = this.range(lba, count);
    if (length === 0) return nothing;
    const fua = (flags & fuaBit) !== 0;
    const data = command.fromHost(length);
    await this.onMedium(command, (medium, options) => medium.write(offset, data, { ...options, fua }));
    return { direction: 'out', length };
  }

  /** SBC-3 5.23 VERIFY without BYTCHK: only checks that the range is on the medium. */
  async #verify({ cdb }: ScsiCommand): Promise<Transferred> {
    if (cdb.getUint8(1) & 0x06) throw new ScsiError(Sense.invalidField);
    this.range(cdb.getUint32(2), cdb.getUint16(7));
    return nothing;
  }

  /**
   * MMC-5 6.24 READ FORMAT CAPACITIES: one descriptor, for the formatted medium or for no medium.
   */
  async #formatCapacities(command: ScsiCommand): Promise<Transferred> {
    const data = new Uint8Array(12);
    const view = new DataView(data.buffer);
    data[3] = 8;
    view.setUint32(4, this.bay.loaded ? Math.min(this.blocks(), 0xffffffff) : 0);
    view.setUint32(8, this.blockSize);
    data[8] = this.bay.loaded ? 2 : 3;
    return reply(command, data, command.cdb.getUint16(7));
  }
}
