/**
 * An ATA disk (ATA8-ACS; sense data reporting from ACS-3) whose medium is any BlockDevice: the
 * general and 48-bit feature sets, native command queuing, trim, logs, SMART.
 *
 * Left out: security, host protected area, streaming, WRITE UNCORRECTABLE, CHS addressing,
 * self-tests.
 */
import type { BlockDevice } from '../../block/device.js';
import { blockErrorOf } from '../../block/errors.js';
import { AtaCommandError, ataErrorOf } from './error.js';
import { DiskLogs } from './logs.js';
import {
  AtaCommand,
  AtaError,
  AtaStatus,
  SetFeature,
  Smart,
  good,
  sectorCommands,
  type SectorCommand,
} from '../../spec/ata.js';
import { dataSetManagement, sectorRange, verify } from './transfer.js';
import { HostError } from '../host-error.js';
import { identifyDisk, transferMode, type AtaIdentity, type AtaSettings } from '../../spec/ata-identify.js';
import type { DeviceCommand, DeviceOutcome, SataDevice } from './sata-device.js';
import { acceptedFeatures, defaultSettings, diskLimits } from './settings.js';
import { Signature } from '../../spec/sata-fis.js';
import { Sense, type SenseCode } from '../../spec/scsi.js';
import { checkLike } from '../saved-state.js';

/** The part of a snapshot that holds a disk. */
interface DiskState {
  readonly settings: AtaSettings;
  readonly sense: SenseCode;
  readonly logs: ReturnType<DiskLogs['save']>;
}

type Result = Partial<DeviceOutcome['result']> & { protocol?: DeviceOutcome['protocol']; transferred?: number };

export class AtaDisk implements SataDevice {
  readonly signature = Signature.ata;
  readonly resetStatus = good;
  readonly #disk: BlockDevice;
  readonly #identity: AtaIdentity;
  #settings: AtaSettings = { ...defaultSettings };
  #logs = new DiskLogs();
  #sense: SenseCode = Sense.noSense;

  constructor(disk: BlockDevice, identity: AtaIdentity) {
    this.#disk = disk;
    this.#identity = identity;
  }

  isQueued(command: number): boolean {
    return sectorCommands.get(command)?.queued === true;
  }

  async execute(command: DeviceCommand): Promise<DeviceOutcome> {
    const { file } = command;
    try {
      const { protocol = 'none', transferred = 0, ...registers } = await this.#dispatch(command);
      const result = { status: good, error: 0, lba: file.lba, count: file.count, device: file.device, ...registers };
      return { protocol, transferred, result };
    } catch (error) {
      if (error instanceof HostError) throw error;
      const failure =
        error instanceof AtaCommandError ? error : ataErrorOf(blockErrorOf(error).kind, writes(file.command));
      return this.#failed(command, failure);
    }
  }

  /**
   * Synchronous DMA transfers that the block device can do without waiting. Returns undefined for
   * all other commands and for errors; `execute` then does the transfer or reports the error.
   */
  executeNow(command: DeviceCommand): DeviceOutcome | undefined {
    const { file } = command;
    const kind = sectorCommands.get(file.command);
    const { direct } = this.#disk;
    if (!direct || kind?.protocol !== 'dma') return undefined;
    const reads = kind.act === 'read';
    try {
      const { offset, length, fua } = sectorRange(this.#disk, file, kind);
      if (reads) {
        if (!command.toHost(length).fillNow((view, at) => direct.read(offset + at, view))) return undefined;
        this.#logs.use.readBytes += length;
      } else {
        // A write that must be durable when acknowledged cannot be synchronous.
        if (fua || !this.#settings.writeCache) return undefined;
        if (!command.fromHost(length).takeNow((view, at) => direct.write(offset + at, view))) return undefined;
        this.#logs.use.writtenBytes += length;
      }
      const result = { status: good, error: 0, lba: file.lba, count: file.count, device: file.device };
      return { protocol: 'dma', transferred: length, result };
    } catch {
      return undefined;
    }
  }

  queuedError(slot: number, outcome: DeviceOutcome, queued: boolean): void {
    this.#logs.queuedError(slot, outcome.result, Sense.noSense, queued);
  }

  reset(hard: boolean): void {
    // ATA8-ACS 7.47.12 and SATA 3.0 §13.5: "revert to defaults" is off and settings are preserved,
    // so a reset keeps them.
    if (hard) this.#settings.senseReporting = false;
  }

  attach(): void {
    // A disk sends no notifications.
  }

  save(): DiskState {
    return { settings: { ...this.#settings }, sense: this.#sense, logs: this.#logs.save() };
  }

  /** @throws StateFault if it cannot have been saved */
  restore(state: unknown): void {
    const own = this.save();
    checkLike({ ...own, logs: { ...own.logs, errors: [], queued: undefined } }, state);
    const { settings, sense, logs } = state as DiskState;
    this.#settings = { ...settings };
    this.#sense = sense;
    this.#logs.restore(logs);
  }

  #failed(command: DeviceCommand, failure: AtaCommandError): DeviceOutcome {
    const { file, slot, options } = command;
    const sense = this.#settings.senseReporting && failure.sense[0] !== 0 ? AtaStatus.sense : 0;
    const status = good | AtaStatus.error | failure.status | sense;
    const result = { status, error: failure.error, lba: file.lba, count: file.count, device: file.device };
    const outcome: DeviceOutcome = { protocol: 'none', transferred: 0, result };
    // the driver never sees this error, so the logs must not record it
    if (options.signal?.aborted) return outcome;
    this.#sense = failure.sense;
    if (this.isQueued(file.command)) this.#logs.queuedError(slot, result, failure.sense, true);
    // A.19: unknown commands and invalid addresses are not errors of the device, so they are not
    // logged.
    if ((failure.error & AtaError.uncorrectable) !== 0 || failure.status !== 0) this.#logs.addError(file, result);
    return outcome;
  }

  async #dispatch(command: DeviceCommand): Promise<Result> {
    const { file, options } = command;
    const kind = sectorCommands.get(file.command);
    if (kind) return this.#transfer(command, kind);
    switch (file.command) {
      case AtaCommand.flushCache:
      case AtaCommand.flushCacheExt:
      case AtaCommand.standby:
      case AtaCommand.standbyImmediate:
      case AtaCommand.sleep:
        // 7.54: data in the cache is written before the device enters standby.
        await this.#disk.flush(options);
        return {};
      case AtaCommand.idle:
      case AtaCommand.idleImmediate:
        return {};
      case AtaCommand.checkPowerMode:
        return { count: 0xff }; // active or idle
      case AtaCommand.dataSetManagement:
        await dataSetManagement(this.#disk, command);
        return { protocol: 'dma' };
      case AtaCommand.identify:
        return this.#give(command, identifyDisk(this.#identity, this.#facts, this.#settings, diskLimits));
      case AtaCommand.setFeatures:
        return this.#setFeatures(file.features & 0xff, file.count & 0xff);
      case AtaCommand.setMultiple:
        return this.#setMultiple(file.count & 0xff);
      case AtaCommand.readLogExt:
        return this.#give(command, this.#logs.read(file));
      case AtaCommand.smart:
        return this.#smart(command);
      case AtaCommand.requestSenseDataExt:
        return this.#giveSense();
      case AtaCommand.executeDiagnostic:
        return { error: 1, lba: Signature.ata >>> 8, count: Signature.ata & 0xff };
      default:
        throw new AtaCommandError(AtaError.abort);
    }
  }

  async #transfer(command: DeviceCommand, kind: SectorCommand): Promise<Result> {
    const { act, protocol } = kind;
    if (kind.multiple && this.#settings.multiple === 0) throw new AtaCommandError(AtaError.abort);
    const range = sectorRange(this.#disk, command.file, kind);
    const { offset, length } = range;
    const { options } = command;
    if (act === 'verify') {
      await verify(this.#disk, range, options);
      return {};
    }
    if (act === 'read') {
      await this.#disk.read(offset, command.toHost(length), options);
      this.#logs.use.readBytes += length;
      return { protocol: protocol === 'dma' ? 'dma' : 'pio-in', transferred: length };
    }
    // With the write cache off, acknowledged writes must be durable.
    const fua = range.fua || !this.#settings.writeCache;
    await this.#disk.write(offset, command.fromHost(length), { ...options, fua });
    this.#logs.use.writtenBytes += length;
    return { protocol: protocol === 'dma' ? 'dma' : 'pio-out', transferred: length };
  }

  #give(command: DeviceCommand, data: Uint8Array): Result {
    command.toHost(data.length).copyFrom(data, 0);
    return { protocol: 'pio-in', transferred: data.length };
  }

  #setFeatures(feature: number, count: number): Result {
    const settings = this.#settings;
    switch (feature) {
      case SetFeature.enableWriteCache:
      case SetFeature.disableWriteCache:
        if (!this.#disk.info.can.flush) throw new AtaCommandError(AtaError.abort);
        settings.writeCache = feature === SetFeature.enableWriteCache;
        return {};
      case SetFeature.enableReadLookAhead:
      case SetFeature.disableReadLookAhead:
        settings.lookAhead = feature === SetFeature.enableReadLookAhead;
        return {};
      case SetFeature.transferMode: {
        const mode = transferMode(count);
        if (mode === undefined) throw new AtaCommandError(AtaError.abort);
        settings.udma = mode;
        return {};
      }
      case SetFeature.senseReporting:
        settings.senseReporting = (count & 1) !== 0;
        return {};
      default:
        if (acceptedFeatures.has(feature)) return {};
        throw new AtaCommandError(AtaError.abort);
    }
  }

  /**
   * ACS-3 7.33: sense key, code and qualifier in the LBA field; the status bit is set if there is
   * sense data. Clears it.
   */
  #giveSense(): Result {
    const [key, asc, ascq] = this.#sense;
    this.#sense = Sense.noSense;
    return { status: key === 0 ? good : good | AtaStatus.sense, lba: (key << 16) | (asc << 8) | ascq };
  }

  /** 7.48 SET MULTIPLE MODE. */
  #setMultiple(count: number): Result {
    if (count > diskLimits.multiple || (count & (count - 1)) !== 0) throw new AtaCommandError(AtaError.abort);
    this.#settings.multiple = count;
    return {};
  }

  /** 7.53 SMART: every subcommand requires the key in the LBA field. */
  #smart(command: DeviceCommand): Result {
    const { file } = command;
    const feature = file.features & 0xff;
    if (((file.lba >>> 8) & 0xffff) !== Smart.key) throw new AtaCommandError(AtaError.abort);
    if (!this.#settings.smart && feature !== Smart.enable) throw new AtaCommandError(AtaError.abort);
    switch (feature) {
      case Smart.enable:
      case Smart.disable:
        this.#settings.smart = feature === Smart.enable;
        return {};
      case Smart.autosave:
        return {};
      case Smart.returnStatus:
        return {}; // the key is unchanged: no threshold is exceeded
      case Smart.readData:
        return this.#give(command, this.#logs.smartData());
      case Smart.readThresholds:
        return this.#give(command, this.#logs.smartThresholds());
      case Smart.readLog:
        return this.#give(command, this.#logs.smartLog(file.lba & 0xff, file.count & 0xff));
      default:
        throw new AtaCommandError(AtaError.abort);
    }
  }

  get #facts() {
    const { info } = this.#disk;
    const sectorSize = Math.max(512, info.blockSize);
    return {
      sectors: Math.floor(info.size / sectorSize),
      sectorSize,
      physicalSize: Math.max(sectorSize, Math.min(info.preferredSize, 4096)),
      volatileCache: info.can.flush,
      trim: info.can.trim && !info.readOnly,
      rotational: info.rotational,
    };
  }
}

/** True if the command, if it fails, has failed to write. */
function writes(command: number): boolean {
  return sectorCommands.get(command)?.act === 'write' || otherWrites.has(command);
}

const otherWrites: ReadonlySet<number> = new Set([
  AtaCommand.dataSetManagement,
  AtaCommand.flushCache,
  AtaCommand.flushCacheExt,
]);
