/**
 * One drive of v86's IDE controller whose disk is remote. Its methods replace those of v86's drive
 * (ide.ts).
 *
 * The drive is busy until the disk has answered, and it reports errors. Each drive has at most one
 * request in flight; commands that the guest sends meanwhile or out of order are refused.
 *
 * Specification: ATA8-ACS (commands; error outputs in 7.x), [BMI] (spec/bus-master.ts). Left out:
 * UDMA, FUA, SMART, security, sector numbers of more than 31 bits.
 */
import { pause } from '../../../base/event-loop.js';
import { AtaCommand, AtaError, AtaStatus, SetFeature, good, sectorCommands, sectorSize } from '../../../spec/ata.js';
import { BusMaster } from '../../../spec/bus-master.js';
import type { GuestBuffers, GuestMemory } from '../../guest-memory.js';
import type { IdeDisk } from '../../ide-disk.js';
import { answerDelay } from '../../late-answer.js';
import { addIdentity } from './ide-identify.js';
import { describedMemory } from './ide-prd.js';

/**
 * Largest number of sectors of a data block of a multiple command: a power of two, which v86
 * reports in word 47 of IDENTIFY DEVICE.
 */
const maxMultiple = 128;

/** The parts of v86's drive (class "IDEInterface") that are used here. */
export interface V86Drive {
  readonly channel: {
    readonly master: object;
    readonly slave: object;
    dma_command: number;
    dma_status: number;
    prdt_addr: number;
  };
  status_reg: number;
  error_reg: number;
  features_reg: number;
  readonly sector_count_reg: number;
  readonly lba_mid_reg: number;
  readonly lba_high_reg: number;
  current_command: number;
  sectors_per_drq: number;
  readonly sector_count: number;
  data: Uint8Array;
  data_pointer: number;
  data_length: number;
  data_end: number;
  write_dest: number;
  push_irq(): void;
  get_lba(lba48: boolean): number;
  get_count(lba48: boolean): number;
  ata_advance(command: number, sectors: number): void;
}

/** A range of the disk, in bytes and in sectors. */
interface Range {
  readonly start: number;
  readonly length: number;
  readonly count: number;
}

/** A DMA transfer: the range of the disk and the guest memory. */
interface Transfer {
  readonly range: Range;
  readonly memory: GuestBuffers;
}

/** State of the bus master of a channel, which its drives share. */
export interface BusMasterUse {
  /** The last transfer that the bus master was started for. */
  transfer?: Transfer | undefined;
}

const verifyBytes = 1 << 20;

export class FarDrive {
  readonly #v86: V86Drive;
  readonly #disk: IdeDisk;
  readonly #memory: GuestMemory;
  readonly #busMaster: BusMasterUse;
  #writeCache: boolean;
  /**
   * The range of the command when it was issued: the registers may change before the bus master
   * starts.
   */
  #range: Range | undefined;
  /** Number of requests in flight, and number of resets so far. */
  #inFlight = 0;
  #resets = 0;
  #statusAfterReset = 0;
  /** Ends at a reset the wait of a late answer. */
  #untilReset = new AbortController();
  readonly #waiting: (() => void)[] = [];

  constructor(v86: V86Drive, disk: IdeDisk, memory: GuestMemory, busMaster: BusMasterUse) {
    this.#v86 = v86;
    this.#busMaster = busMaster;
    this.#disk = disk;
    this.#memory = memory;
    this.#writeCache = disk.writeCache;
  }

  /** Resolves when no request is in flight. */
  async idle(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Handles a write to the command register. Returns true if the command was handled here, false if
   * v86 must handle it.
   */
  command(command: number): boolean {
    const v86 = this.#v86;
    if (v86.status_reg & AtaStatus.busy) return true;
    // A new command ends the data port transfer of an earlier one.
    v86.data_pointer = v86.data_end = v86.data_length = 0;
    v86.current_command = command;
    this.#range = undefined;
    if (kindOf(command)) return this.#sectors(command);
    switch (command) {
      case AtaCommand.flushCache:
      case AtaCommand.flushCacheExt:
      case AtaCommand.standbyImmediate:
        this.#flush();
        return true;
      case AtaCommand.setFeatures:
        return this.#setFeatures(v86.features_reg & 0xff);
      case AtaCommand.setMultiple:
        return this.#setMultiple(v86.sector_count_reg & 0xff);
      case AtaCommand.deviceReset: // only packet devices have this command
        this.#fail(AtaError.abort);
        return true;
      default:
        return false;
    }
  }

  /** Resets the drive. It stays busy until no earlier write can have an effect any more. */
  reset(): void {
    const v86 = this.#v86;
    this.#resets++;
    this.#untilReset.abort();
    this.#untilReset = new AbortController();
    v86.current_command = -1;
    v86.data_pointer = v86.data_end = v86.data_length = 0;
    this.#range = undefined;
    if (this.#inFlight === 0) return;
    this.#statusAfterReset = v86.status_reg;
    v86.status_reg = AtaStatus.busy;
  }

  /** v86 asks for the sectors that the guest will read at the data port. */
  readPio(start: number, length: number, done: (data: Uint8Array) => void): void {
    const data = new Uint8Array(length);
    this.#run(this.#disk.read(start, data), () => done(data), AtaError.uncorrectable);
  }

  /** The guest has written the data of a command to the data port. */
  writePio(): void {
    const { data, data_length: length, write_dest: start, current_command: command } = this.#v86;
    // The guest may have written to the data port during a read command.
    const kind = kindOf(command);
    if (kind?.act !== 'write' || kind.protocol !== 'pio') return this.#fail(AtaError.abort);
    this.#write(start, data.slice(0, length), () => {
      this.#v86.ata_advance(command, length / sectorSize);
      this.#done();
    });
  }

  /** The bus master starts a read. */
  readDma(): void {
    const transfer = this.#startDma();
    if (!transfer) return;
    const { range, memory } = transfer;
    const data = new Uint8Array(range.length);
    const { channel } = this.#v86;
    const end = (): void => {
      // If the bus master was stopped, nothing may be transferred; if it was started again, it
      // serves another transfer.
      const active = channel.dma_command & BusMaster.start && channel.dma_status & BusMaster.active;
      if (!active || this.#busMaster.transfer !== transfer) return this.#failDma();
      memory.copyFrom(data, 0);
      this.#advance(range);
    };
    this.#run(this.#disk.read(range.start, data), end, AtaError.uncorrectable);
  }

  /** The bus master starts a write. */
  writeDma(): void {
    const transfer = this.#startDma();
    if (!transfer) return;
    const { range, memory } = transfer;
    const data = new Uint8Array(range.length);
    memory.copyTo(data, 0);
    this.#write(range.start, data, () => this.#advance(range));
  }

  /** IDENTIFY DEVICE (ATA8-ACS 7.16): adds the facts about the disk that v86 does not know. */
  identify(): void {
    const { data, sector_count: sectors } = this.#v86;
    addIdentity(data, { sectors, disk: this.#disk, cacheOn: this.#writeCache });
  }

  /**
   * Handles a command that addresses sectors. A range that is not on the disk is an error
   * immediately.
   */
  #sectors(command: number): boolean {
    const range = this.#named(command);
    const { act, multiple } = kindOf(command)!;
    const unset = this.#v86.sectors_per_drq === 0 && multiple;
    if (!range) this.#fail(AtaError.idNotFound);
    else if (unset || (act === 'write' && this.#disk.readOnly)) this.#fail(AtaError.abort);
    else if (act === 'verify') this.#verify(range);
    else {
      this.#range = range;
      return false;
    }
    return true;
  }

  /** The range that the registers address; undefined if it is not on the disk. */
  #named(command: number): Range | undefined {
    const v86 = this.#v86;
    const wide = kindOf(command)?.wide ?? false;
    // v86 ignores the uppermost 16 bits of a 48-bit address, so refuse addresses that use them.
    if (wide && ((v86.lba_mid_reg | v86.lba_high_reg) & 0xff00) !== 0) return undefined;
    const count = v86.get_count(wide);
    const start = v86.get_lba(wide) * sectorSize;
    const length = count * sectorSize;
    return start < 0 || start + length > this.#disk.size ? undefined : { start, length, count };
  }

  #setFeatures(feature: number): boolean {
    if (feature === SetFeature.enableWriteCache) this.#writeCache = this.#disk.writeCache;
    if (feature !== SetFeature.disableWriteCache) return false;
    this.#writeCache = false;
    this.#flush();
    return true;
  }

  /** SET MULTIPLE MODE; 0 disables the multiple commands. */
  #setMultiple(sectors: number): boolean {
    const valid = (sectors & (sectors - 1)) === 0 && sectors <= maxMultiple;
    if (valid) return false;
    this.#fail(AtaError.abort);
    return true;
  }

  #flush(): void {
    this.#run(this.#disk.flush(), () => this.#done(), AtaError.abort, AtaStatus.deviceFault);
  }

  #write(start: number, data: Uint8Array, done: () => void): void {
    const written = this.#disk.write(start, data);
    const durable = this.#writeCache || !this.#disk.writeCache ? written : written.then(() => this.#disk.flush());
    this.#run(durable, done, AtaError.abort, AtaStatus.deviceFault);
  }

  #verify({ start, length }: Range): void {
    const read = async (): Promise<void> => {
      const scratch = new Uint8Array(Math.min(length, verifyBytes));
      for (let at = 0; at < length; at += verifyBytes) {
        await this.#disk.read(start + at, scratch.subarray(0, Math.min(verifyBytes, length - at)));
      }
    };
    this.#run(read(), () => this.#done(), AtaError.uncorrectable);
  }

  /** Prepares a DMA transfer. Returns undefined if it cannot begin. */
  #startDma(): Transfer | undefined {
    const v86 = this.#v86;
    this.#busMaster.transfer = undefined;
    if (v86.status_reg & AtaStatus.busy) return undefined;
    // After a snapshot was restored `#range` is not known; the registers still have the command's
    // range.
    const range = this.#range ?? this.#named(v86.current_command);
    const memory = range && describedMemory(this.#memory, v86.channel.prdt_addr, range.length);
    if (!memory) {
      this.#failDma();
      return undefined;
    }
    return (this.#busMaster.transfer = { range, memory });
  }

  /** Waits for the disk's answer; the drive is busy until then. */
  #run(request: Promise<void>, done: () => void, failure: number, fault = 0): void {
    const v86 = this.#v86;
    const resets = this.#resets;
    const { signal } = this.#untilReset;
    const issued = performance.now();
    this.#inFlight++;
    v86.status_reg = AtaStatus.busy;
    v86.data_pointer = v86.data_end = v86.data_length = 0;
    const settle = (act: () => void): void => {
      this.#inFlight--;
      if (resets === this.#resets) act();
      else if (this.#inFlight === 0) v86.status_reg = this.#statusAfterReset;
      if (this.#inFlight === 0) for (const wake of this.#waiting.splice(0)) wake();
    };
    request.then(
      () => {
        const delay = answerDelay(issued, issued, performance.now());
        if (delay === 0) return settle(done);
        void pause(delay, signal).then(() => settle(done));
      },
      () => settle(() => this.#fail(failure, fault)),
    );
  }

  #advance({ count }: Range): void {
    this.#v86.ata_advance(this.#v86.current_command, count);
    this.#done();
  }

  #done(): void {
    this.#end(good, 0);
  }

  #fail(error: number, fault = 0): void {
    this.#end(good | AtaStatus.error | fault, error);
  }

  #end(status: number, error: number): void {
    const v86 = this.#v86;
    v86.status_reg = status;
    v86.error_reg = error;
    v86.channel.dma_status &= ~BusMaster.active;
    v86.current_command = -1;
    v86.push_irq();
  }

  /**
   * Ends a DMA transfer with an error: its descriptors are invalid, or the bus master was stopped.
   */
  #failDma(): void {
    this.#v86.channel.dma_status |= BusMaster.error;
    this.#fail(AtaError.abort);
  }
}

/** The kind of a command that addresses sectors; undefined if v86's drives do not have it. */
function kindOf(command: number) {
  const kind = sectorCommands.get(command);
  return kind?.fua || kind?.queued ? undefined : kind;
}
