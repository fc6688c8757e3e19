/**
 * A CD/DVD drive (MMC-5). It reads the data of one session with one track, which is what a disc
 * image contains.
 *
 * Left out: audio, writing, sub-channel data, raw sectors.
 */
import {
  discInformation,
  dvdPhysical,
  features,
  mechanismStatus,
  modePages,
  toc,
  trackInformation,
} from '../../spec/mmc.js';
import { ScsiError, nothing, reply, type ScsiCommand, type Transferred } from './command.js';
import { ScsiUnit } from './unit.js';
import { DeviceType, Profile, Scsi, Sense, cdMaxSectors, discSector } from '../../spec/scsi.js';

export class CdUnit extends ScsiUnit {
  readonly deviceType = DeviceType.cd;
  readonly blockSize = discSector;

  protected own(command: ScsiCommand): Promise<Transferred> | undefined {
    const { cdb } = command;
    switch (cdb.getUint8(0)) {
      case Scsi.readToc:
        return this.#answer(command, this.#toc(cdb), cdb.getUint16(7));
      case Scsi.getConfiguration:
        return this.#answer(command, this.#configuration(cdb), cdb.getUint16(7));
      case Scsi.readDiscInformation:
        return this.#answer(
          command,
          this.#disc(() => discInformation()),
          cdb.getUint16(7),
        );
      case Scsi.readTrackInformation:
        return this.#answer(command, this.#disc(trackInformation), cdb.getUint16(7));
      case Scsi.readDvdStructure:
        return this.#answer(command, this.#dvd(cdb), cdb.getUint16(8));
      case Scsi.mechanismStatus:
        return this.#answer(command, mechanismStatus(this.bay.trayOpen), cdb.getUint16(8));
      case Scsi.setCdSpeed:
        return Promise.resolve(nothing);
      case Scsi.readCd:
        return this.#readCd(command);
      default:
        return undefined;
    }
  }

  protected modePages(page: number): { pages: Uint8Array; parameter: number } {
    return { pages: modePages(page, this.bay.locked), parameter: 0 };
  }

  async #answer(command: ScsiCommand, data: Uint8Array, allocation: number): Promise<Transferred> {
    return reply(command, data, allocation);
  }

  #disc(make: (sectors: number) => Uint8Array): Uint8Array {
    return make(this.blocks());
  }

  /** MMC-5 6.26 READ TOC: format 0 lists the tracks, format 1 the sessions. */
  #toc(cdb: DataView): Uint8Array {
    // Drives older than MMC take the format from the two high bits of byte 9.
    const format = cdb.getUint8(2) & 0xf || cdb.getUint8(9) >> 6;
    const sectors = this.blocks();
    const data = toc(format, (cdb.getUint8(1) & 2) !== 0, cdb.getUint8(6), sectors);
    if (!data) throw new ScsiError(Sense.invalidField);
    return data;
  }

  /** MMC-5 6.5 GET CONFIGURATION. */
  #configuration(cdb: DataView): Uint8Array {
    const kind = cdb.getUint8(1) & 3;
    if (kind === 3) throw new ScsiError(Sense.invalidField);
    return features(this.#profile, kind, cdb.getUint16(2));
  }

  get #profile(): number {
    if (!this.bay.loaded) return Profile.none;
    return this.blocks() > cdMaxSectors ? Profile.dvdRom : Profile.cdRom;
  }

  /**
   * MMC-5 6.22 READ DVD STRUCTURE: only physical format information, and only if the medium is a
   * DVD.
   */
  #dvd(cdb: DataView): Uint8Array {
    const sectors = this.blocks();
    if (this.#profile !== Profile.dvdRom || cdb.getUint8(7) !== 0) throw new ScsiError(Sense.invalidField);
    return dvdPhysical(sectors);
  }

  /** MMC-5 6.19 READ CD: only the user data of data sectors. */
  async #readCd(command: ScsiCommand): Promise<Transferred> {
    const { cdb } = command;
    const type = (cdb.getUint8(1) >> 2) & 7;
    const count = (cdb.getUint8(6) << 16) | cdb.getUint16(7);
    const main = cdb.getUint8(9) & 0xf8;
    if (type > 2 && type !== 4) throw new ScsiError(Sense.illegalModeForTrack);
    if (count === 0 || main === 0) return nothing;
    if (type === 1) throw new ScsiError(Sense.illegalModeForTrack);
    if (main !== 0x10 || (cdb.getUint8(10) & 7) !== 0) throw new ScsiError(Sense.invalidField);
    return this.read(command, cdb.getUint32(2), count);
  }
}
