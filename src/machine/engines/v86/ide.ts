/**
 * Remote disks on the IDE controller of the v86 engine.
 *
 * v86 acknowledges writes and flushes before they are done and cannot report errors. So for our
 * disks, and only for them, its methods are replaced by those of a {@link FarDrive}.
 */
import type { GuestMemory } from '../../guest-memory.js';
import { maxIdeDisks, type IdeDisk } from '../../ide-disk.js';
import { FarDrive, type BusMasterUse, type V86Drive } from './far-ide-drive.js';
import { AtaCommand } from '../../../spec/ata.js';

/** The methods of v86's drives that are replaced. */
interface V86DriveMethods {
  ata_command(this: V86Drive, command: number): void;
  device_reset(this: V86Drive): void;
  read_buffer(this: V86Drive, start: number, length: number, done: (data: Uint8Array) => void): void;
  do_write(this: V86Drive): void;
  do_ata_read_sectors_dma(this: V86Drive): void;
  do_ata_write_sectors_dma(this: V86Drive): void;
  create_identify_packet(this: V86Drive): void;
}

/** The part of v86's controller through which its drives are found. */
export interface V86Ide {
  readonly primary?: { readonly master: object; readonly slave: object };
}

/**
 * The disk content that v86 is given. It has only a size, because all requests go through the
 * replaced methods.
 */
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
  /** v86 looks for a geometry in the first sector. It finds none here and uses its default. */
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

/** Attaches the disks to the drives that v86 has created for their {@link IdeBuffer}s. */
export function attachIde(ide: V86Ide | undefined, disks: readonly IdeDisk[], memory: GuestMemory): FarDrive[] {
  if (disks.length === 0) return [];
  if (!ide?.primary || disks.length > maxIdeDisks) throw new Error('the engine has no such IDE drives');
  const { master, slave } = ide.primary;
  const busMaster: BusMasterUse = {};
  replaceMethods(Object.getPrototypeOf(master) as V86DriveMethods);
  return disks.map((disk, i) => {
    const v86 = i === 0 ? master : slave;
    const drive = new FarDrive(v86 as V86Drive, disk, memory, busMaster);
    drives.set(v86, drive);
    return drive;
  });
}

/** Replaces the methods once for all of v86's drives. Drives with other disks behave as before. */
function replaceMethods(methods: V86DriveMethods): void {
  if (patched.has(methods)) return;
  patched.add(methods);
  const before = { ...pick(methods) };
  methods.ata_command = function (command) {
    if (drives.get(this)?.command(command)) return;
    before.ata_command.call(this, command);
    // EXECUTE DEVICE DIAGNOSTIC applies to both drives of a channel, whichever it is sent to.
    const { master, slave } = this.channel;
    if (command === AtaCommand.executeDiagnostic) for (const one of [master, slave]) drives.get(one)?.reset();
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
