/**
 * The v86 engine's own IDE controller with disks that are elsewhere. v86 answers writes and flushes before they are done
 * and knows no errors; here its methods are replaced, for disks of ours only, so that a drive is busy until the disk has
 * answered, and says what went wrong.
 *
 * Specification: ATA8-ACS (commands; error outputs in 7.x), "Programming Interface for Bus Master IDE Controller" 1.0
 * ([BMI]). Left out: UDMA, FUA, SMART, security, addresses above 31 bits of sectors.
 */
import type { GuestMemory } from '../guest-memory.js';
import { maxIdeDisks, type IdeDisk } from '../ide-disk.js';

/** What is used of v86's drive ("interface"), of which its methods are replaced. */
interface V86Drive {
  readonly channel: { dma_status: number; prdt_addr: number };
  status_reg: number;
  error_reg: number;
  features_reg: number;
  current_command: number;
  readonly sector_count: number;
  data: Uint8Array;
  data_length: number;
  write_dest: number;
  push_irq(): void;
  get_lba(lba48: boolean): number;
  get_count(lba48: boolean): number;
  ata_advance(command: number, sectors: number): void;
}

/** The methods that are replaced. */
interface V86DriveMethods {
  ata_command(this: V86Drive, command: number): void;
  device_reset(this: V86Drive): void;
  read_buffer(this: V86Drive, start: number, length: number, done: (data: Uint8Array) => void): void;
  do_write(this: V86Drive): void;
  do_ata_read_sectors_dma(this: V86Drive): void;
  do_ata_write_sectors_dma(this: V86Drive): void;
  create_identify_packet(this: V86Drive): void;
}

/** v86's controller, as far as its drives are found by it. */
export interface V86Ide {
  readonly primary?: { readonly master: object; readonly slave: object };
}

const sector = 512;
/** Status (ATA8-ACS 6.2.x) and error register bits. */
const Status = { busy: 0x80, ready: 0x40, fault: 0x20, seek: 0x10, error: 0x01 } as const;
const Failure = { uncorrectable: 0x40, notFound: 0x10, aborted: 0x04 } as const;
/** [BMI] 2.1 bus master status. */
const Dma = { active: 1, error: 2 } as const;
const Command = { verify: 0x40, verifyExt: 0x42, flush: 0xe7, flushExt: 0xea, setFeatures: 0xef } as const;
const Feature = { enableWriteCache: 0x02, disableWriteCache: 0x82 } as const;
const readCommands = new Set([0x20, 0x24, 0x25, 0x29, 0xc4, 0xc8, Command.verify, Command.verifyExt]);
const writeCommands = new Set([0x30, 0x34, 0x35, 0x39, 0xc5, 0xca]);
const wideCommands = new Set([0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x42]);
/** Descriptors that a transfer of 65536 sectors can need, and some. */
const maxDescriptors = 16384;
const verifyBytes = 1 << 20;

/** What v86 is given as the content of a disk: its size; all else goes by the methods below. */
export class IdeBuffer {
  readonly byteLength: number;
  onload: ((event: object) => void) | undefined = undefined;
  onprogress: unknown = undefined;

  constructor({ size }: IdeDisk) {
    this.byteLength = size;
  }

  load(): void {
    this.onload?.({});
  }
  /** v86 looks for a geometry in the first sector; it finds none and takes its own. */
  get_and_cache(_start: number, length: number, done: (data: Uint8Array) => void): void {
    done(new Uint8Array(length));
  }
  get_from_cache(_start: number, length: number): Uint8Array {
    return new Uint8Array(length);
  }
  get(): void {
    throw new Error('not by this way');
  }
  set(): void {
    throw new Error('not by this way');
  }
  get_state(): unknown[] {
    return [];
  }
  set_state(): void {
    return;
  }
}

const drives = new WeakMap<object, FarDrive>();
const patched = new WeakSet<object>();

/** Puts disks behind the drives that v86 has made of their {@link IdeBuffer}s. */
export function attachIde(ide: V86Ide | undefined, disks: readonly IdeDisk[], memory: GuestMemory): FarDrive[] {
  if (disks.length === 0) return [];
  if (!ide?.primary || disks.length > maxIdeDisks) throw new Error('the engine has no such IDE drives');
  const { master, slave } = ide.primary;
  replaceMethods(Object.getPrototypeOf(master) as V86DriveMethods);
  return disks.map((disk, i) => {
    const v86 = i === 0 ? master : slave;
    const drive = new FarDrive(v86 as V86Drive, disk, memory);
    drives.set(v86, drive);
    return drive;
  });
}

/** Once for all of v86's drives: those that are not ours go on as before. */
function replaceMethods(methods: V86DriveMethods): void {
  if (patched.has(methods)) return;
  patched.add(methods);
  const before = { ...pick(methods) };
  methods.ata_command = function (command) {
    const drive = drives.get(this);
    if (!drive?.command(command)) before.ata_command.call(this, command);
  };
  methods.device_reset = function () {
    before.device_reset.call(this);
    drives.get(this)?.reset();
  };
  methods.read_buffer = function (start, length, done) {
    const drive = drives.get(this);
    if (drive) drive.readPio(start, length, done);
    else before.read_buffer.call(this, start, length, done);
  };
  methods.do_write = function () {
    const drive = drives.get(this);
    if (drive) drive.writePio();
    else before.do_write.call(this);
  };
  methods.do_ata_read_sectors_dma = function () {
    const drive = drives.get(this);
    if (drive) drive.readDma();
    else before.do_ata_read_sectors_dma.call(this);
  };
  methods.do_ata_write_sectors_dma = function () {
    const drive = drives.get(this);
    if (drive) drive.writeDma();
    else before.do_ata_write_sectors_dma.call(this);
  };
  methods.create_identify_packet = function () {
    before.create_identify_packet.call(this);
    drives.get(this)?.identify();
  };
}

function pick(methods: V86DriveMethods): V86DriveMethods {
  const { ata_command, device_reset, read_buffer, do_write } = methods;
  const { do_ata_read_sectors_dma, do_ata_write_sectors_dma, create_identify_packet } = methods;
  return {
    ...{ ata_command, device_reset, read_buffer, do_write },
    ...{ do_ata_read_sectors_dma, do_ata_write_sectors_dma, create_identify_packet },
  };
}

/** A part of guest memory that a descriptor names. */
interface Piece {
  readonly address: number;
  readonly length: number;
}

/** One drive: what v86's methods are replaced by. */
export class FarDrive {
  readonly #v86: V86Drive;
  readonly #disk: IdeDisk;
  readonly #memory: GuestMemory;
  #writeCache: boolean;
  /** Requests that the disk has not answered, and of which reset they are. */
  #underWay = 0;
  #resets = 0;
  #statusAfterReset = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(v86: V86Drive, disk: IdeDisk, memory: GuestMemory) {
    this.#v86 = v86;
    this.#disk = disk;
    this.#memory = memory;
    this.#writeCache = disk.writeCache;
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    if (this.#underWay > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** A command is written; whether it has been seen to here. */
  command(command: number): boolean {
    const v86 = this.#v86;
    if (v86.status_reg & Status.busy) return true;
    const reads = readCommands.has(command);
    const writes = writeCommands.has(command);
    if (reads || writes) {
      v86.current_command = command;
      const { start, length } = this.#range();
      if (start + length > this.#disk.size) this.#fail(Failure.notFound);
      else if (writes && this.#disk.readOnly) this.#fail(Failure.aborted);
      else if (command === Command.verify || command === Command.verifyExt) this.#verify(start, length);
      else return false;
      return true;
    }
    if (command === Command.flush || command === Command.flushExt) {
      v86.current_command = command;
      this.#run(this.#disk.flush(), () => this.#done(), Failure.aborted, Status.fault);
      return true;
    }
    const feature = v86.features_reg & 0xff;
    if (command === Command.setFeatures && feature === Feature.disableWriteCache) {
      this.#writeCache = false;
      this.#run(this.#disk.flush(), () => this.#done(), Failure.aborted, Status.fault);
      return true;
    }
    if (command === Command.setFeatures && feature === Feature.enableWriteCache)
      this.#writeCache = this.#disk.writeCache;
    return false;
  }

  /** A reset of the drive: it is busy until no write of before can have an effect any more. */
  reset(): void {
    this.#resets++;
    if (this.#underWay === 0) return;
    this.#statusAfterReset = this.#v86.status_reg;
    this.#v86.status_reg = Status.busy;
  }

  /** v86 wants sectors for its data port. */
  readPio(start: number, length: number, done: (data: Uint8Array) => void): void {
    const data = new Uint8Array(length);
    this.#run(this.#disk.read(start, data), () => done(data), Failure.uncorrectable);
  }

  /** The guest has written the sectors of a command to the data port. */
  writePio(): void {
    const { data, data_length: length, write_dest: start, current_command: command } = this.#v86;
    this.#write(start, data.slice(0, length), () => {
      this.#v86.ata_advance(command, length / sector);
      this.#done();
    });
  }

  readDma(): void {
    const v86 = this.#v86;
    const { start, length, count } = this.#range();
    const pieces = this.#pieces(length);
    if (!pieces) return this.#failDma();
    const data = new Uint8Array(length);
    this.#run(
      this.#disk.read(start, data),
      () => {
        let at = 0;
        for (const { address, length: bytes } of pieces) {
          this.#memory.view(address, bytes)?.set(data.subarray(at, at + bytes));
          this.#memory.written(address, bytes);
          at += bytes;
        }
        v86.ata_advance(v86.current_command, count);
        this.#done();
      },
      Failure.uncorrectable,
    );
  }

  writeDma(): void {
    const v86 = this.#v86;
    const { start, length, count } = this.#range();
    const pieces = this.#pieces(length);
    if (!pieces) return this.#failDma();
    const data = new Uint8Array(length);
    let at = 0;
    for (const { address, length: bytes } of pieces) {
      data.set(this.#memory.view(address, bytes)!, at);
      at += bytes;
    }
    this.#write(start, data, () => {
      v86.ata_advance(v86.current_command, count);
      this.#done();
    });
  }

  /** IDENTIFY DEVICE (ATA8-ACS 7.12): what v86 does not know of the disk. */
  identify(): void {
    const { data, sector_count: sectors } = this.#v86;
    const view = new DataView(data.buffer, data.byteOffset);
    const word = (at: number, value: number): void => view.setUint16(2 * at, value, true);
    putText(data, 10, 10, this.#disk.serial);
    putText(data, 23, 4, this.#disk.firmware);
    putText(data, 27, 20, this.#disk.model);
    word(49, 0x0300); // LBA, DMA
    view.setUint32(2 * 60, Math.min(sectors, 0x0fffffff), true);
    word(80, 0x0070); // ATA/ATAPI-4 to 6
    const cache = this.#disk.writeCache ? 0x20 : 0;
    word(82, view.getUint16(2 * 82, true) | cache);
    word(85, view.getUint16(2 * 85, true) | (this.#writeCache ? 0x20 : 0));
  }

  #range(): { start: number; length: number; count: number } {
    const wide = wideCommands.has(this.#v86.current_command);
    const count = this.#v86.get_count(wide);
    return { start: this.#v86.get_lba(wide) * sector, length: count * sector, count };
  }

  #write(start: number, data: Uint8Array, done: () => void): void {
    const written = this.#disk.write(start, data);
    const durable = this.#writeCache || !this.#disk.writeCache ? written : written.then(() => this.#disk.flush());
    this.#run(durable, done, Failure.aborted, Status.fault);
  }

  #verify(start: number, length: number): void {
    const read = async (): Promise<void> => {
      const scratch = new Uint8Array(Math.min(length, verifyBytes));
      for (let at = 0; at < length; at += verifyBytes) {
        await this.#disk.read(start + at, scratch.subarray(0, Math.min(verifyBytes, length - at)));
      }
    };
    this.#run(read(), () => this.#done(), Failure.uncorrectable);
  }

  /** Busy until the disk has answered. */
  #run(request: Promise<void>, done: () => void, failure: number, fault = 0): void {
    const resets = this.#resets;
    this.#underWay++;
    this.#v86.status_reg = Status.busy;
    const settle = (act: () => void): void => {
      this.#underWay--;
      if (resets === this.#resets) act();
      else if (this.#underWay === 0) this.#v86.status_reg = this.#statusAfterReset;
      if (this.#underWay === 0) for (const wake of this.#waiting.splice(0)) wake();
    };
    request.then(
      () => settle(done),
      () => settle(() => this.#fail(failure, fault)),
    );
  }

  #done(): void {
    this.#end(Status.ready | Status.seek, 0);
  }

  #fail(error: number, fault = 0): void {
    this.#end(Status.ready | Status.seek | Status.error | fault, error);
  }

  #end(status: number, error: number): void {
    const v86 = this.#v86;
    v86.status_reg = status;
    v86.error_reg = error;
    v86.channel.dma_status &= ~Dma.active;
    v86.current_command = -1;
    v86.push_irq();
  }

  /** The descriptors lead nowhere. */
  #failDma(): void {
    this.#v86.channel.dma_status |= Dma.error;
    this.#fail(Failure.aborted);
  }

  /** The memory that the descriptors name ([BMI] 1.2), `total` bytes of it; undefined where it is not there or too little. */
  #pieces(total: number): Piece[] | undefined {
    const pieces: Piece[] = [];
    let left = total;
    for (let i = 0; i < maxDescriptors && left > 0; i++) {
      const entry = this.#memory.view((this.#v86.channel.prdt_addr & ~3) + 8 * i, 8);
      if (!entry) return undefined;
      const view = new DataView(entry.buffer, entry.byteOffset, 8);
      const length = Math.min(left, view.getUint16(4, true) || 0x10000);
      const address = view.getUint32(0, true);
      if (!this.#memory.view(address, length)) return undefined;
      pieces.push({ address, length });
      left -= length;
      if (view.getUint8(7) & 0x80) break;
    }
    return left === 0 ? pieces : undefined;
  }
}

/** Text of IDENTIFY DEVICE: the first of two characters is the word's higher byte; blanks at the end. */
function putText(data: Uint8Array, word: number, words: number, text: string): void {
  for (let i = 0; i < 2 * words; i++) data[2 * word + (i ^ 1)] = i < text.length ? text.charCodeAt(i) & 0x7f : 0x20;
}
