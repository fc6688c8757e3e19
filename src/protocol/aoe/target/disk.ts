/**
 * The ATA disk that a target presents: parses ATA commands and executes them on a BlockDevice.
 * [ATA] 7: the general feature set with LBA48, flush and the write cache.
 *
 * Left out: SMART, security, power management.
 */
import { buffersOf, type Buffers } from '../../../base/buffers.js';
import type { BlockDevice } from '../../../block/device.js';
import type { DirectAccess } from '../../../block/direct.js';
import { blockErrorOf } from '../../../block/errors.js';
import { LossWatch } from '../../../block/losses.js';
import { cacheFeature, identifyData } from '../identify.js';
import {
  AtaCommand,
  AtaError,
  AtaStatus,
  lba28Limit,
  lba48Limit,
  sectorCommands,
  sectorSize,
  type SectorCommand,
} from '../../../spec/ata.js';
import { AoeError, AtaFlag } from '../spec.js';
import type { AtaRequest } from '../wire.js';
import { worldWideNameOf } from './world-wide-name.js';

/** The texts by which IDENTIFY names the disk. */
export interface DiskIdentity {
  readonly model: string;
  readonly serial: string;
  readonly firmware: string;
}

/** Result of a command: an AoE error, or [ATA] registers. */
export interface Result {
  /** AoeError, or 0 for none. */
  readonly aoeError: number;
  readonly status: number;
  readonly error: number;
  readonly count: number;
}

/** A command after parsing: its kind and byte range. */
export interface Plan {
  readonly kind: 'read' | 'write' | 'flush' | 'identify' | 'other';
  /** Byte offset in the device. */
  readonly offset: number;
  /** Bytes to send or that were received. */
  readonly length: number;
  readonly fua: boolean;
}

/** Result of a command that succeeded. */
export const good: Result = { aoeError: 0, status: AtaStatus.ready, error: 0, count: 0 };
const badArgument: Result = { aoeError: AoeError.badArgument, status: 0, error: 0, count: 0 };
/** Answer if the target is reserved for other initiators. */
export const reserved: Result = { aoeError: AoeError.reserved, status: 0, error: 0, count: 0 };

/** True if a write has fewer than its sectors in the `payload` bytes that arrived with it. */
export function isCut({ command, count }: AtaRequest, payload: number): boolean {
  return sectorCommands.get(command)?.act === 'write' && payload < count * sectorSize;
}

function failed(error: number, status: number = AtaStatus.ready | AtaStatus.error): Result {
  return { aoeError: 0, status, error, count: 0 };
}

export class Disk {
  /** Number of [ATA] sectors. A partial sector at the end of the device is not addressable. */
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly #device: BlockDevice;
  readonly #direct: DirectAccess | undefined;
  readonly #identity: DiskIdentity;
  readonly #maxSectors: number;
  #writeCache: boolean;

  constructor(device: BlockDevice, identity: DiskIdentity, options: DiskOptions) {
    this.#device = device;
    this.#direct = device.direct;
    this.#identity = identity;
    this.#maxSectors = options.maxSectors;
    this.#writeCache = !options.writeThrough;
    this.readOnly = options.readOnly || device.info.readOnly;
    this.sectors = Math.min(Math.floor(device.info.size / sectorSize), lba48Limit);
  }

  /** Parses and checks a request. Returns a result if the request is refused. */
  plan(ata: AtaRequest): Plan | Result {
    const kind = sectorCommands.get(ata.command);
    if (kind) return this.#sectors(ata, kind);
    switch (ata.command) {
      case AtaCommand.flushCache:
      case AtaCommand.flushCacheExt:
        if (!this.#device.info.can.flush) return failed(AtaError.abort);
        return { kind: 'flush', offset: 0, length: 0, fua: false };
      case AtaCommand.identify:
        if (ata.count !== 1) return badArgument;
        return { kind: 'identify', offset: 0, length: sectorSize, fua: false };
      case AtaCommand.checkPowerMode:
      case AtaCommand.setFeatures:
        return { kind: 'other', offset: 0, length: 0, fua: false };
      default:
        return failed(AtaError.abort);
    }
  }

  /** A watch for a new initiator, which reports losses of the device from now on. */
  watchLosses(): LossWatch {
    return new LossWatch(this.#device.losses);
  }

  /**
   * Executes a command. A read or IDENTIFY fills `data`, a write takes it; its length is the
   * plan's. Never rejects.
   * @param losses The loss watch of the initiator that sent the command.
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

  /** True if the device has synchronous reads and writes. */
  get isDirect(): boolean {
    return this.#direct !== undefined;
  }

  /** Synchronous read. If it returns false, `into` is undefined: call {@link execute} then. */
  readDirect({ offset }: Plan, into: Uint8Array): boolean {
    try {
      return this.#direct?.read(offset, into) ?? false;
    } catch {
      return false;
    }
  }

  /**
   * Synchronous write. Returns true if the write may be acknowledged; else call {@link execute}.
   */
  writeDirect({ offset, fua }: Plan, from: Uint8Array): boolean {
    if (fua || !this.#writeCache) return false;
    try {
      return this.#direct?.write(offset, from) ?? false;
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

  /** Reads or writes `data.length` bytes at the plan's offset. Rejects with a BlockError. */
  transfer(plan: Plan, data: Buffers): Promise<void> {
    if (plan.kind === 'read') return this.#device.read(plan.offset, data);
    return this.#device.write(plan.offset, data, { fua: plan.fua || !this.#writeCache });
  }

  /** SET FEATURES ([ATA] 7.48), and CHECK POWER MODE ([ATA] 7.4), which always reports "active". */
  #other(ata: AtaRequest): Result {
    if (ata.command === AtaCommand.checkPowerMode) return { ...good, count: 0xff };
    const cache = cacheFeature(ata.feature);
    if (cache === undefined || !this.#device.info.can.flush) return failed(AtaError.abort);
    this.#writeCache = cache;
    return good;
  }

  #sectors(ata: AtaRequest, { act, wide, multiple, queued, fua }: SectorCommand): Plan | Result {
    if (act === 'verify' || multiple || queued) return failed(AtaError.abort);
    if (fua && !this.#device.info.can.flush) return failed(AtaError.abort);
    const { count } = ata;
    const length = count * sectorSize;
    if (count === 0 || count > this.#maxSectors) return badArgument;
    const isWrite = act === 'write';
    // [AoE] 3.1: flag W means that data comes with the request. It must agree with the command.
    if (isWrite !== ((ata.flags & AtaFlag.write) !== 0)) return badArgument;
    if (isWrite && this.readOnly) return failed(AtaError.abort | AtaError.writeProtected);
    const limit = wide ? lba48Limit : lba28Limit;
    const lba = wide ? ata.lba : ata.lba % 2 ** 28;
    if (lba + count > Math.min(this.sectors, limit)) return failed(AtaError.idNotFound);
    return { kind: act, offset: lba * sectorSize, length, fua };
  }
}

export interface DiskOptions {
  /** Maximum number of sectors in one message. */
  readonly maxSectors: number;
  readonly readOnly: boolean;
  /** Writes are durable when answered, until an initiator turns the write cache on. */
  readonly writeThrough: boolean;
}

/**
 * Maps a device error to registers. If the device's backend is gone, the answer is the AoE error
 * "device unavailable".
 */
function resultOf(error: unknown, kind: Plan['kind']): Result {
  switch (blockErrorOf(error).kind) {
    case 'range':
      return failed(AtaError.idNotFound);
    case 'read-only':
      return failed(AtaError.abort | AtaError.writeProtected);
    case 'unreachable':
    case 'no-medium':
    case 'closed':
      return { aoeError: AoeError.unavailable, status: 0, error: 0, count: 0 };
    default:
      if (kind === 'read') return failed(AtaError.uncorrectable);
      return failed(AtaError.abort, AtaStatus.ready | AtaStatus.deviceFault | AtaStatus.error);
  }
}
