/**
 * A logical unit of a packet device: the commands that every kind of unit has (SPC-3), and the read
 * commands, which SBC-3 and MMC-5 define alike.
 *
 * Not here: commands of a CD/DVD drive (cd-unit.ts) and of a removable disk (disk-unit.ts).
 */
import { JoinedAbort } from '../../base/abort.js';
import { buffersOf } from '../../base/buffers.js';
import type { BlockDevice, RemovableMedia, RequestOptions } from '../../block/device.js';
import { blockErrorOf } from '../../block/errors.js';
import type { AtaIdentity } from '../../spec/ata-identify.js';
import { DeviceType, EventClass, Scsi, Sense, readCapacity16Action, type SenseCode } from '../../spec/scsi.js';
import { capacity10, capacity16, fixedSense, modeData, oneLun, unchangeable } from '../../spec/scsi-data.js';
import { inquiry, vitalProductData } from '../../spec/scsi-inquiry.js';
import { HostError } from '../host-error.js';
import { ScsiError, nothing, reply, senseOf, type ScsiCommand, type Transferred } from './command.js';
import type { MediumBay } from './medium-bay.js';

/**
 * Commands that are executed although a unit attention condition is pending (SPC-3 5.14, MMC-5
 * 4.1.6.1).
 */
const despiteAttention: ReadonlySet<number> = new Set([
  Scsi.inquiry,
  Scsi.requestSense,
  Scsi.reportLuns,
  Scsi.getConfiguration,
  Scsi.getEventStatus,
]);

export abstract class ScsiUnit {
  abstract readonly deviceType: number;
  /** Bytes of a logical block. */
  abstract readonly blockSize: number;
  readonly identity: AtaIdentity;
  protected readonly bay: MediumBay;
  #sense: SenseCode = Sense.noSense;

  constructor(bay: MediumBay, identity: AtaIdentity) {
    this.bay = bay;
    this.identity = identity;
  }

  /** Executes a command of this kind of unit. Returns undefined if it does not have the command. */
  protected abstract own(command: ScsiCommand): Promise<Transferred> | undefined;
  /**
   * The mode pages that `page` names (or all), and the device-specific parameter of the mode
   * header.
   */
  protected abstract modePages(page: number): { pages: Uint8Array; parameter: number };

  /** @throws ScsiError for every failure, except a HostError if the data has no memory */
  async execute(command: ScsiCommand): Promise<Transferred> {
    const opcode = command.cdb.getUint8(0);
    const medium = this.bay.signal;
    try {
      if (this.bay.attention && !despiteAttention.has(opcode)) throw new ScsiError(this.bay.takeAttention()!);
      return await this.#dispatch(opcode, command);
    } catch (error) {
      const sense = error instanceof ScsiError ? error.sense : this.#senseOf(error, opcode, medium);
      if (!sense) throw error;
      this.#sense = sense;
      throw new ScsiError(sense);
    }
  }

  saveSense(): SenseCode {
    return this.#sense;
  }

  restoreSense(sense: SenseCode): void {
    this.#sense = sense;
  }

  async #dispatch(opcode: number, command: ScsiCommand): Promise<Transferred> {
    const { cdb } = command;
    switch (opcode) {
      case Scsi.testUnitReady:
        await this.#ready(command);
        return nothing;
      case Scsi.requestSense:
        return reply(command, this.#requestSense(), cdb.getUint8(4));
      case Scsi.inquiry:
        return this.#inquiry(command);
      case Scsi.reportLuns:
        return reply(command, oneLun, cdb.getUint32(6));
      case Scsi.startStopUnit:
        return this.#startStop(command);
      case Scsi.preventAllow:
        await this.bay.lock((cdb.getUint8(4) & 1) !== 0, this.#named(command.options));
        return nothing;
      case Scsi.getEventStatus:
        return this.#eventStatus(command);
      case Scsi.readCapacity10:
        return reply(command, capacity10(this.blocks(), this.blockSize), 8);
      case Scsi.serviceActionIn16:
        if ((cdb.getUint8(1) & 0x1f) !== readCapacity16Action) throw new ScsiError(Sense.invalidField);
        return reply(command, capacity16(this.blocks(), this.blockSize), cdb.getUint32(10));
      case Scsi.read10:
        return this.read(command, cdb.getUint32(2), cdb.getUint16(7));
      case Scsi.read12:
        return this.read(command, cdb.getUint32(2), cdb.getUint32(6));
      case Scsi.read16:
        return this.read(command, Number(cdb.getBigUint64(2)), cdb.getUint32(10));
      case Scsi.seek10:
        this.range(cdb.getUint32(2), 0);
        return nothing;
      case Scsi.modeSense6:
        return this.#modeSense(command, 4, cdb.getUint8(4));
      case Scsi.modeSense10:
        return this.#modeSense(command, 8, cdb.getUint16(7));
      case Scsi.synchronizeCache10:
      case Scsi.synchronizeCache16:
        await this.onMedium(command, (medium, options) => medium.flush(options));
        return nothing;
      default: {
        const done = this.own(command);
        if (!done) throw new ScsiError(Sense.invalidOpcode);
        return done;
      }
    }
  }

  /**
   * The medium.
   * @throws ScsiError if there is none
   */
  protected medium(): BlockDevice {
    const { medium } = this.bay;
    if (!medium) throw new ScsiError(this.bay.absence);
    return medium;
  }

  /**
   * Calls `act` with the present medium. The request is given up when the port gives up the
   * command, and when the medium leaves the drive.
   * @throws ScsiError if there is no medium
   */
  protected onMedium<T>(
    command: ScsiCommand,
    act: (medium: BlockDevice, options: RequestOptions) => Promise<T>,
  ): Promise<T> {
    const medium = this.medium();
    return this.#during(command, (options) => act(medium, this.#named(options)));
  }

  async #during<T>({ options }: ScsiCommand, act: (options: RequestOptions) => Promise<T>): Promise<T> {
    const joined = new JoinedAbort(this.bay.signal, options.signal);
    try {
      return await act({ ...options, signal: joined.signal });
    } finally {
      joined.end();
    }
  }

  /**
   * Request options that name the present medium of a remote drive, so that the request fails if
   * another medium is there.
   */
  #named(options: RequestOptions): RequestOptions {
    const { mediumName } = this.bay;
    return mediumName === undefined ? options : { ...options, medium: mediumName };
  }

  /** Number of logical blocks of the medium. */
  protected blocks(): number {
    return Math.floor(this.medium().info.size / this.blockSize);
  }

  /**
   * The byte range of `count` blocks from `lba`.
   * @throws ScsiError if it is not on the medium
   */
  protected range(lba: number, count: number): { offset: number; length: number } {
    if (!(lba + count <= this.blocks())) throw new ScsiError(Sense.lbaOutOfRange);
    return { offset: lba * this.blockSize, length: count * this.blockSize };
  }

  protected async read(command: ScsiCommand, lba: number, count: number): Promise<Transferred> {
    const { offset, length } = this.range(lba, count);
    if (length === 0) return nothing;
    const place = command.toHost(length);
    await this.onMedium(command, (medium, options) => medium.read(offset, place, options));
    return { direction: 'in', length };
  }

  /**
   * SPC-3 6.33 TEST UNIT READY. If the device had lost its medium, it is asked whether a medium is
   * back.
   */
  async #ready(command: ScsiCommand): Promise<void> {
    const device = this.bay.vanished;
    // A remote drive reports its media by itself. With another device it is unknown whether the
    // same medium is back, so a medium that the guest could write to is not accepted again.
    const written = this.deviceType !== DeviceType.cd && !device?.info.readOnly;
    if (device && !device.media && !written) {
      const block = new Uint8Array(Math.max(512, device.info.blockSize));
      await this.#during(command, (options) => device.read(0, buffersOf(block), options));
      this.bay.returned();
      throw new ScsiError(this.bay.takeAttention()!);
    }
    this.medium();
  }

  /** SPC-3 4.5.3: sense data in fixed format, 18 bytes. Reading it clears it. */
  #requestSense(): Uint8Array {
    const pending = this.#sense[0] !== 0 ? this.#sense : (this.bay.takeAttention() ?? this.#sense);
    this.#sense = Sense.noSense;
    return fixedSense(pending);
  }

  #inquiry(command: ScsiCommand): Transferred {
    const { cdb } = command;
    const page = cdb.getUint8(2);
    const vital = (cdb.getUint8(1) & 1) !== 0;
    if (!vital && page !== 0) throw new ScsiError(Sense.invalidField);
    const data = vital
      ? vitalProductData(
          {
            deviceType: this.deviceType,
            identity: this.identity,
            rotational: this.bay.medium?.info.rotational ?? false,
          },
          page,
        )
      : inquiry(this.deviceType, this.identity);
    if (!data) throw new ScsiError(Sense.invalidField);
    return reply(command, data, cdb.getUint16(3));
  }

  /** SBC-3 5.20, MMC-5 6.42 START STOP UNIT: LOEJ ejects or loads; START alone has no effect. */
  async #startStop(command: ScsiCommand): Promise<Transferred> {
    const action = command.cdb.getUint8(4) & 3;
    if (action === 2) {
      if (this.bay.locked) throw new ScsiError(Sense.removalPrevented);
      // Data that the guest has written must be durable before the medium leaves the drive.
      const { medium } = this.bay;
      if (medium && !medium.info.readOnly) await this.onMedium(command, (one, options) => one.flush(options));
      if (medium?.media) await this.#ejectFar(medium.media, command);
      this.bay.guestEject();
    }
    if (action === 3) {
      this.bay.trayOpen = false;
      this.medium();
    }
    return nothing;
  }

  async #ejectFar(media: RemovableMedia, command: ScsiCommand): Promise<void> {
    try {
      await this.onMedium(command, (_, options) => media.eject(options));
    } catch (error) {
      const { kind } = blockErrorOf(error);
      if (kind === 'no-medium' || command.options.signal?.aborted) throw error;
      throw new ScsiError(kind === 'read-only' ? Sense.removalPrevented : Sense.ejectFailed);
    }
  }

  /** MMC-5 6.6 GET EVENT STATUS NOTIFICATION: polled only, and only the class media. */
  #eventStatus(command: ScsiCommand): Transferred {
    const { cdb } = command;
    if ((cdb.getUint8(1) & 1) === 0) throw new ScsiError(Sense.invalidField);
    const supported = 1 << EventClass.media;
    if (!(cdb.getUint8(4) & supported)) {
      // no event available
      return reply(command, Uint8Array.of(0, 2, 0x80, supported), cdb.getUint16(7));
    }
    const status = (this.bay.trayOpen ? 1 : 0) | (this.bay.loaded ? 2 : 0);
    const event = cdb.getUint16(7) > 4 ? this.bay.takeEvent() : 0;
    return reply(command, Uint8Array.of(0, 6, EventClass.media, supported, event, status, 0, 0), cdb.getUint16(7));
  }

  /**
   * SPC-3 6.9, 6.10 MODE SENSE: a header of 4 or 8 bytes, no block descriptors, no subpages. No
   * value can be changed or saved.
   */
  #modeSense(command: ScsiCommand, header: 4 | 8, allocation: number): Transferred {
    const control = command.cdb.getUint8(2) >> 6;
    if (control === 3) throw new ScsiError(Sense.saveNotSupported);
    const subpage = command.cdb.getUint8(3);
    const { pages, parameter } = this.modePages(command.cdb.getUint8(2) & 0x3f);
    if (pages.length === 0 || (subpage !== 0 && subpage !== 0xff)) throw new ScsiError(Sense.invalidField);
    const data = modeData(header, parameter, control === 1 ? unchangeable(pages) : pages);
    return reply(command, data, allocation);
  }

  /** The sense code for a failure of the medium; undefined if the failure is a HostError. */
  #senseOf(error: unknown, opcode: number, medium: AbortSignal): SenseCode | undefined {
    if (error instanceof HostError) return undefined;
    if (medium.aborted) return this.bay.absence;
    const { kind } = blockErrorOf(error);
    if (kind === 'no-medium' || kind === 'closed') {
      this.bay.vanish();
      return this.bay.absence;
    }
    return senseOf(kind, opcode);
  }
}
