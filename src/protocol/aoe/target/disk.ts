/**
 * The ATA disk that a target shows its device as: which commands there are, and what each answers. [ATA] 7; of it the
 * general feature set with LBA48, flush and the write cache, without SMART, security and power management.
 */
import { buffersOf, type Buffers } from '../../../base/buffers.js';
import type { BlockDevice } from '../../../block/device.js';
import { blockErrorOf } from '../../../block/errors.js';
import { LossWatch } from '../../../block/losses.js';
import { cacheFeature, identifyData } from '../identify.js';
import { AoeError, AtaCommand, AtaErrorBit, AtaFlag, AtaStatus, lba28Limit, lba48Limit, sectorSize } from '../spec.js';
import type { AtaRequest } from '../wire.js';
import { worldWideNameOf } from './world-wide-name.js';

export interface DiskIdentity {
  readonly model: string;
  readonly serial: string;
  readonly firmware: string;
}

/** What a command comes to: an AoE error, or [ATA] registers. */
export interface Result {
  /** AoeError; 0: none. */
  readonly aoeError: number;
  readonly status: number;
  readonly error: number;
  readonly count: number;
}

/** What a command does, and with how much data. */
export interface Plan {
  readonly kind: 'read' | 'write' | 'flush' | 'identify' | 'other';
  /** In bytes. */
  readonly offset: number;
  /** Of the data that are to be sent or were received, in bytes. */
  readonly length: number;
  readonly fua: boolean;
}

export const good: Result = { aoeError: 0, status: AtaStatus.ready, error: 0, count: 0 };
const badArgument: Result = { aoeError: AoeError.badArgument, status: 0, error: 0, count: 0 };
/** The target is reserved for other initiators. */
export const reserved: Result = { aoeError: AoeError.reserved, status: 0, error: 0, count: 0 };

const writes: ReadonlySet<number> = new Set([
  AtaCommand.writeSectors,
  AtaCommand.writeDma,
  AtaCommand.writeSectorsExt,
  AtaCommand.writeDmaExt,
  AtaCommand.writeDmaFuaExt,
]);

/** Whether a request writes more than the `payload` bytes that came with it. */
export function isCut({ command, count }: AtaRequest, payload: number): boolean {
  return writes.has(command) && payload < count * sectorSize;
}

function failed(error: number, status: number = AtaStatus.ready | AtaStatus.error): Result {
  return { aoeError: 0, status, error, count: 0 };
}

export class Disk {
  /** [ATA] sectors; a device's end that is less than one is not shown. */
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly #device: BlockDevice;
  readonly #identity: DiskIdentity;
  readonly #maxSectors: number;
  #writeCache: boolean;

  constructor(device: BlockDevice, identity: DiskIdentity, options: DiskOptions) {
    this.#device = device;
    this.#identity = identity;
    this.#maxSectors = options.maxSectors;
    this.#writeCache = !options.writeThrough;
    this.readOnly = options.readOnly || device.info.readOnly;
    this.sectors = Math.min(Math.floor(device.info.size / sectorSize), lba48Limit);
  }

  /** What a request is about; a result where it is refused. */
  plan(ata: AtaRequest): Plan | Result {
    switch (ata.command) {
      case AtaCommand.readSectors:
      case AtaCommand.readDma:
        return this.#transfer('read', ata, ata.lba % 2 ** 28, lba28Limit);
      case AtaCommand.readSectorsExt:
      case AtaCommand.readDmaExt:
        return this.#transfer('read', ata, ata.lba, lba48Limit);
      case AtaCommand.writeSectors:
      case AtaCommand.writeDma:
        return this.#transfer('write', ata, ata.lba % 2 ** 28, lba28Limit);
      case AtaCommand.writeSectorsExt:
      case AtaCommand.writeDmaExt:
        return this.#transfer('write', ata, ata.lba, lba48Limit);
      case AtaCommand.writeDmaFuaExt:
        if (!this.#device.info.can.flush) return failed(AtaErrorBit.abort);
        return this.#transfer('write', ata, ata.lba, lba48Limit);
      case AtaCommand.flush:
      case AtaCommand.flushExt:
        if (!this.#device.info.can.flush) return failed(AtaErrorBit.abort);
        return { kind: 'flush', offset: 0, length: 0, fua: false };
      case AtaCommand.identify:
        if (ata.count !== 1) return badArgument;
        return { kind: 'identify', offset: 0, length: sectorSize, fua: false };
      case AtaCommand.checkPowerMode:
      case AtaCommand.setFeatures:
        return { kind: 'other', offset: 0, length: 0, fua: false };
      default:
        return failed(AtaErrorBit.abort);
    }
  }

  /** What an initiator that comes now has to be told of the device's losses. */
  watchLosses(): LossWatch {
    return new LossWatch(this.#device.losses);
  }

  /**
   * Reads into, or writes from, `data`, which has the plan's length. Never rejects.
   * @param losses Of the initiator whose command it is.
   */
  async execute(plan: Plan, ata: AtaRequest, data: Uint8Array, losses?: LossWatch): Promise<Result> {
    try {
      switch (plan.kind) {
        case 'read':
        case 'write':
          await this.transfer(plan, buffersOf(data));
          return good;
        case 'flush':
          await (losses ? losses.flush(() => this.#device.flush()) : this.#device.flush());
          return good;
        case 'identify':
          data.set(this.identify());
          return good;
        case 'other':
          return this.#other(ata);
      }
    } catch (error) {
      return resultOf(error, plan.kind);
    }
  }

  /** Reads at once what needs no waiting. False: {@link execute} it; what is in `into` is undefined. */
  readNow({ offset }: Plan, into: Uint8Array): boolean {
    try {
      return this.#device.readNow?.(offset, into) ?? false;
    } catch {
      return false;
    }
  }

  /** The same for a write: true when it may be acknowledged. */
  writeNow({ offset, fua }: Plan, from: Uint8Array): boolean {
    if (fua || !this.#writeCache) return false;
    try {
      return this.#device.writeNow?.(offset, from) ?? false;
    } catch {
      return false;
    }
  }

  identify(): Uint8Array {
    const { info } = this.#device;
    const { flush } = info.can;
    return identifyData({
      ...this.#identity,
      sectors: this.sectors,
      removable: info.removable,
      physicalSize: Math.max(info.preferredSize, sectorSize),
      rotational: info.rotational,
      flush,
      writeCache: this.#writeCache,
      fua: flush,
      lba48: true,
      worldWideName: worldWideNameOf(info.marks),
    });
  }

  /** Reads or writes `data.length` bytes from the plan's offset on. Rejects with a BlockError. */
  transfer(plan: Plan, data: Buffers): Promise<void> {
    if (plan.kind === 'read') return this.#device.read(plan.offset, data);
    return this.#device.write(plan.offset, data, { fua: plan.fua || !this.#writeCache });
  }

  /** [ATA] 7.48: SET FEATURES; 7.4: CHECK POWER MODE, always active. */
  #other(ata: AtaRequest): Result {
    if (ata.command === AtaCommand.checkPowerMode) return { ...good, count: 0xff };
    const cache = cacheFeature(ata.feature);
    if (cache === undefined || !this.#device.info.can.flush) return failed(AtaErrorBit.abort);
    this.#writeCache = cache;
    return good;
  }

  #transfer(kind: 'read' | 'write', ata: AtaRequest, lba: number, limit: number): Plan | Result {
    const { count } = ata;
    const length = count * sectorSize;
    if (count === 0 || count > this.#maxSectors) return badArgument;
    const isWrite = kind === 'write';
    // [AoE] 3.1: W says that data come with the request; one that says something else than its command makes no sense.
    if (isWrite !== ((ata.flags & AtaFlag.write) !== 0)) return badArgument;
    if (isWrite && this.readOnly) return failed(AtaErrorBit.abort | AtaErrorBit.writeProtected);
    if (lba + count > Math.min(this.sectors, limit)) return failed(AtaErrorBit.idNotFound);
    const fua = ata.command === AtaCommand.writeDmaFuaExt;
    return { kind, offset: lba * sectorSize, length, fua };
  }
}

export interface DiskOptions {
  /** Most sectors of one message. */
  readonly maxSectors: number;
  readonly readOnly: boolean;
  /** Writes are durable when they are answered, until an initiator turns the write cache on. */
  readonly writeThrough: boolean;
}

/** A device's error as registers. What lies behind the device and is away is "device unavailable". */
function resultOf(error: unknown, kind: Plan['kind']): Result {
  switch (blockErrorOf(error).kind) {
    case 'range':
      return failed(AtaErrorBit.idNotFound);
    case 'read-only':
      return failed(AtaErrorBit.abort | AtaErrorBit.writeProtected);
    case 'unreachable':
    case 'no-medium':
    case 'closed':
      return { aoeError: AoeError.unavailable, status: 0, error: 0, count: 0 };
    default:
      if (kind === 'read') return failed(AtaErrorBit.uncorrectable);
      return failed(AtaErrorBit.abort, AtaStatus.ready | AtaStatus.fault | AtaStatus.error);
  }
}
