/**
 * A packet device (ATAPI; ATA8-ACS 7.24 PACKET) with a removable medium: the ATA side of a CD/DVD
 * drive or of a removable disk.
 *
 * Not here: the packet commands (../scsi/unit.ts). Left out: overlapped and queued packets.
 */
import type { BlockDevice } from '../../block/device.js';
import { AtaCommand, AtaError, AtaStatus, SataFeature, SetFeature, good } from '../../spec/ata.js';
import { CdUnit } from '../scsi/cd-unit.js';
import { DiskUnit } from '../scsi/disk-unit.js';
import { identifyPacket, transferMode, type AtaIdentity } from '../../spec/ata-identify.js';
import { MediumBay, type BayState, type EjectResult } from '../scsi/medium-bay.js';
import type { DeviceCommand, DeviceOutcome, SataDevice } from './sata-device.js';
import { DeviceType, discSector, type SenseCode } from '../../spec/scsi.js';
import { ScsiError, type Transferred } from '../scsi/command.js';
import type { ScsiUnit } from '../scsi/unit.js';
import { Signature } from '../../spec/sata-fis.js';
import { acceptedFeatures } from './settings.js';
import { checkLike } from '../saved-state.js';

/**
 * Interrupt reason in the count field (ATA8-ACS 6.4): bit 0 command or data, bit 1 direction. Both
 * are set at the end of a command.
 */
const ended = 0x03;
/** Features field of PACKET: the data is transferred by DMA. */
const dmaBit = 0x01;

interface PacketState {
  readonly bay: BayState;
  readonly sense: SenseCode;
  readonly udma: number;
  readonly notification: boolean;
}

export interface PacketDriveOptions {
  readonly kind: 'cdrom' | 'removable';
  readonly identity: AtaIdentity;
  /** The medium that is in the drive from the start. */
  readonly medium?: BlockDevice | undefined;
}

export class PacketDrive implements SataDevice {
  readonly signature = Signature.atapi;
  readonly resetStatus = 0;
  readonly #unit: ScsiUnit;
  readonly #bay: MediumBay;
  readonly #kind: PacketDriveOptions['kind'];
  #notify: () => void = () => undefined;
  #udma = 5;
  #notification = false;

  constructor({ kind, identity, medium }: PacketDriveOptions) {
    this.#kind = kind;
    if (medium) this.#check(medium);
    this.#bay = new MediumBay(medium, ({ blockSize }) => blockSize <= this.#largest);
    this.#bay.onEvent = () => {
      if (this.#notification) this.#notify();
    };
    this.#unit = kind === 'cdrom' ? new CdUnit(this.#bay, identity) : new DiskUnit(this.#bay, identity);
  }

  /**
   * True if there is a medium. `locked`: the guest keeps it in the drive (PREVENT MEDIUM REMOVAL).
   */
  get loaded(): boolean {
    return this.#bay.loaded;
  }

  get locked(): boolean {
    return this.#bay.locked;
  }

  /** Called with the medium that the guest has ejected; from then on it belongs to the listener. */
  set onGuestEject(listener: (device: BlockDevice) => void) {
    this.#bay.onGuestEject = listener;
  }

  /**
   * Inserts a medium. The guest is told that the medium may have changed.
   * @throws RangeError if there is a medium already, or if its blocks are too large
   */
  insert(medium: BlockDevice): void {
    this.#check(medium);
    this.#bay.insert(medium);
  }

  /**
   * Ejects the medium. Returns `locked` if the guest has locked the medium: the guest has then been
   * asked to eject it. With `force` it is ejected anyway, and requests in flight end with "medium
   * not present".
   */
  eject(force = false): EjectResult {
    return this.#bay.eject(force);
  }

  isQueued(): boolean {
    return false;
  }

  async execute(command: DeviceCommand): Promise<DeviceOutcome> {
    const { file } = command;
    switch (file.command) {
      case AtaCommand.packet:
        return this.#packet(command);
      case AtaCommand.identifyPacket:
        return this.#identify(command);
      case AtaCommand.identify:
      // obsolete ways to identify a device (ATA8-ACS 7.16.3): abort with the signature
      case AtaCommand.readSectors:
        return this.#abort(command, true);
      case AtaCommand.deviceReset:
        this.reset(false);
        return this.#end(command, { status: 0, error: 1, lba: this.signature >>> 8, count: this.signature & 0xff });
      case AtaCommand.executeDiagnostic:
        return this.#end(command, { status: 0, error: 1, lba: this.signature >>> 8, count: this.signature & 0xff });
      case AtaCommand.setFeatures:
        return this.#setFeatures(command);
      case AtaCommand.checkPowerMode:
        return this.#end(command, { count: 0xff });
      case AtaCommand.idle:
      case AtaCommand.idleImmediate:
      case AtaCommand.standby:
      case AtaCommand.standbyImmediate:
      case AtaCommand.sleep:
      case AtaCommand.flushCache:
        return this.#end(command, {});
      default:
        return this.#abort(command, false);
    }
  }

  queuedError(): void {
    // There are no queued commands that could fail.
  }

  reset(hard: boolean): void {
    this.#bay.reset();
    if (hard) this.#notification = false;
  }

  attach(notify: () => void): void {
    this.#notify = notify;
  }

  save(): PacketState {
    return {
      bay: this.#bay.save(),
      sense: this.#unit.saveSense(),
      udma: this.#udma,
      notification: this.#notification,
    };
  }

  /** @throws StateFault if it cannot have been saved */
  restore(state: unknown): void {
    const own = this.save();
    checkLike({ ...own, bay: { ...own.bay, attention: undefined } }, state);
    const { bay, sense, udma, notification } = state as PacketState;
    this.#bay.restore(bay);
    this.#unit.restoreSense(sense);
    this.#udma = udma;
    this.#notification = notification;
  }

  async #packet(command: DeviceCommand): Promise<DeviceOutcome> {
    if (!command.packet) return this.#abort(command, false);
    const { toHost, toHostUpTo, fromHost, options, packet } = command;
    const cdb = new DataView(packet.buffer, packet.byteOffset, packet.length);
    const dma = (command.file.features & dmaBit) !== 0;
    try {
      const done = await this.#unit.execute({ cdb, options, toHost, toHostUpTo, fromHost });
      return { ...this.#end(command, { count: ended }), ...transferOf(done, dma) };
    } catch (error) {
      if (!(error instanceof ScsiError)) throw error;
      return this.#end(command, { status: good | AtaStatus.error, error: error.sense[0] << 4, count: ended });
    }
  }

  #identify(command: DeviceCommand): DeviceOutcome {
    const facts = {
      deviceType: this.#unit.deviceType,
      packetSize: this.#unit.deviceType === DeviceType.cd ? 12 : 16,
      notification: this.#notification,
    } as const;
    const data = identifyPacket(this.#unit.identity, facts, this.#udma);
    command.toHost(data.length).copyFrom(data, 0);
    return { ...this.#end(command, {}), protocol: 'pio-in', transferred: data.length };
  }

  #setFeatures(command: DeviceCommand): DeviceOutcome {
    const feature = command.file.features & 0xff;
    const count = command.file.count & 0xff;
    if (feature === SetFeature.transferMode) {
      const mode = transferMode(count);
      if (mode === undefined) return this.#abort(command, false);
      this.#udma = mode;
    } else if (feature === SetFeature.enableSataFeature || feature === SetFeature.disableSataFeature) {
      if (count !== SataFeature.asynchronousNotification) return this.#abort(command, false);
      this.#notification = feature === SetFeature.enableSataFeature;
    } else if (!acceptedFeatures.has(feature)) {
      return this.#abort(command, false);
    }
    return this.#end(command, {});
  }

  #abort(command: DeviceCommand, withSignature: boolean): DeviceOutcome {
    const signature = withSignature ? { lba: this.signature >>> 8, count: this.signature & 0xff } : {};
    return this.#end(command, { status: good | AtaStatus.error, error: AtaError.abort, ...signature });
  }

  #end({ file }: DeviceCommand, registers: Partial<DeviceOutcome['result']>): DeviceOutcome {
    const result = { status: good, error: 0, lba: file.lba, count: file.count, device: file.device, ...registers };
    return { protocol: 'none', transferred: 0, result };
  }

  #check({ info }: BlockDevice): void {
    if (info.blockSize > this.#largest) {
      throw new RangeError(`its blocks of ${info.blockSize} bytes do not fit: at most ${this.#largest}`);
    }
  }

  get #largest(): number {
    return this.#kind === 'cdrom' ? discSector : 4096;
  }
}

function transferOf({ direction, length }: Transferred, dma: boolean): Pick<DeviceOutcome, 'protocol' | 'transferred'> {
  if (direction === 'none') return { protocol: 'none', transferred: 0 };
  if (dma) return { protocol: 'dma', transferred: length };
  return { protocol: direction === 'in' ? 'packet-in' : 'packet-out', transferred: length };
}
