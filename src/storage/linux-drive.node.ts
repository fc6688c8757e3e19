/**
 * LinuxDrive: the drive port of a removable drive on Linux. CD/DVD drives are queried by the ioctls
 * of linux/cdrom.h, removable disks (USB sticks, card readers) by open(2).
 *
 * A medium's name consists of the boot and the kernel's diskseq (BLKGETDISKSEQ, Linux 5.15), which
 * counts media. So a restarted server recognises a medium that is still in the drive. On older
 * kernels CD/DVD drives are asked whether the medium has changed (CDROM_MEDIA_CHANGED); other disks
 * cannot tell two media apart that are exchanged between two polls.
 *
 * CD/DVD drives are only read. Removable disks are written through (O_DSYNC), because a medium may
 * be pulled out at any moment, and acknowledged writes must then be on it.
 *
 * Not here: polling (block/polled-drive.ts), opening the drive (removable.node.ts).
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { promisify } from 'node:util';
import { bootId } from '../base/boot-id.node.js';
import { errnoOf } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { BlockError, blockErrorOf } from '../block/errors.js';
import type { DrivePort } from '../block/polled-drive.js';
import type { FileCalls } from '../linux/files.node.js';

/** linux/cdrom.h. */
export const CDROMEJECT = 0x5309;
export const CDROM_MEDIA_CHANGED = 0x5325;
export const CDROM_DRIVE_STATUS = 0x5326;
export const CDROM_LOCKDOOR = 0x5329;
const CDSL_CURRENT = 0x7fffffff;
/** Answers of CDROM_DRIVE_STATUS: not known; a disc is in the drive. */
export const CDS_NO_INFO = 0;
export const CDS_DISC_OK = 4;
/** scsi/scsi_ioctl.h: PREVENT ALLOW MEDIUM REMOVAL. */
export const SCSI_IOCTL_DOORLOCK = 0x5380;
export const SCSI_IOCTL_DOORUNLOCK = 0x5381;

/**
 * The system calls that a drive needs; tests replace them. All reject with an error that has an
 * errno `code`.
 */
export interface DriveCalls {
  open(path: string, flags: number): Promise<number>;
  close(fd: number): Promise<void>;
  /** ioctl(2) with a number as its argument; resolves with its result. */
  control(fd: number, request: number, value: number): Promise<number>;
  /** BLKGETDISKSEQ on the caller's thread; undefined if the kernel does not support it. */
  sequence(fd: number): number | undefined;
  /** BLKGETSIZE64: the medium's length in bytes. */
  size(fd: number): Promise<number>;
}

export interface LinuxDriveOptions {
  readonly path: string;
  readonly calls: DriveCalls;
  /** True for a CD/DVD drive. */
  readonly optical: boolean;
  /** Names this boot in the names of media. */
  readonly boot: string;
  /** Opens the medium that is in the drive. */
  readonly openMedium: () => Promise<BlockDevice>;
}

const { O_RDONLY, O_NONBLOCK } = fs.constants;

export class LinuxDrive implements DrivePort {
  readonly #options: LinuxDriveOptions;
  /** Number of changes that CDROM_MEDIA_CHANGED has reported, on kernels without diskseq. */
  #changes = 0;
  /** A descriptor that stays open, so that `verify` can read the diskseq without a delay. */
  #watch: number | undefined;

  constructor(options: LinuxDriveOptions) {
    this.#options = options;
  }

  async look(): Promise<string | undefined> {
    const { path, calls, optical, boot } = this.#options;
    // open makes the kernel check for a medium. O_NONBLOCK, or a CD/DVD drive would close its tray.
    let fd: number;
    try {
      fd = await calls.open(path, optical ? O_RDONLY | O_NONBLOCK : O_RDONLY);
    } catch (error) {
      // ENOMEDIUM: no medium. The other codes: the drive has been unplugged.
      await this.#forget();
      if (['ENOMEDIUM', 'ENXIO', 'ENOENT', 'ENODEV'].includes(errnoOf(error) ?? '')) return undefined;
      throw error;
    }
    try {
      if (optical && !(await this.#discIn(fd))) return undefined;
      if ((await calls.size(fd)) === 0) return undefined;
      const sequence = calls.sequence(fd);
      if (optical && sequence === undefined && (await this.#changed(fd))) this.#changes++;
      return sequence === undefined ? `${boot}.c${this.#changes}` : `${boot}.${sequence}`;
    } finally {
      await this.#keep(fd);
    }
  }

  open(): Promise<BlockDevice> {
    return this.#options.openMedium();
  }

  verify(name: string): boolean {
    const { calls, boot } = this.#options;
    if (this.#watch === undefined) return false;
    const sequence = calls.sequence(this.#watch);
    return sequence === undefined || name === `${boot}.${sequence}`;
  }

  async eject(): Promise<void> {
    const { path, calls, optical } = this.#options;
    // The kernel does not eject while another descriptor is open: close ours.
    await this.#forget();
    await this.#withDrive(path, calls, async (fd) => {
      if (optical) await calls.control(fd, CDROM_LOCKDOOR, 0).catch(() => undefined);
      else await calls.control(fd, SCSI_IOCTL_DOORUNLOCK, 0).catch(() => undefined);
      await calls.control(fd, CDROMEJECT, 0);
    });
  }

  async lock(locked: boolean): Promise<void> {
    const { path, calls, optical } = this.#options;
    await this.#withDrive(path, calls, async (fd) => {
      if (optical) await calls.control(fd, CDROM_LOCKDOOR, locked ? 1 : 0);
      else await calls.control(fd, locked ? SCSI_IOCTL_DOORLOCK : SCSI_IOCTL_DOORUNLOCK, 0);
    });
  }

  close(): Promise<void> {
    return this.#forget();
  }

  /**
   * True if a disc is in the drive (CDROM_DRIVE_STATUS). If the drive cannot tell, tries to open it
   * for reading.
   */
  async #discIn(fd: number): Promise<boolean> {
    const { path, calls } = this.#options;
    const status = await calls.control(fd, CDROM_DRIVE_STATUS, CDSL_CURRENT).catch(() => CDS_NO_INFO);
    if (status !== CDS_NO_INFO) return status === CDS_DISC_OK;
    try {
      await calls.close(await calls.open(path, O_RDONLY));
      return true;
    } catch {
      return false;
    }
  }

  async #changed(fd: number): Promise<boolean> {
    return (await this.#options.calls.control(fd, CDROM_MEDIA_CHANGED, CDSL_CURRENT).catch(() => 0)) > 0;
  }

  async #withDrive(path: string, calls: DriveCalls, act: (fd: number) => Promise<unknown>): Promise<void> {
    try {
      const fd = await calls.open(path, O_RDONLY | O_NONBLOCK);
      await act(fd).finally(() => calls.close(fd));
    } catch (error) {
      const code = errnoOf(error);
      if (code === 'EBUSY') throw new BlockError('read-only', 'the drive is in use', { cause: error });
      if (code === 'ENOSYS' || code === 'ENOTTY') throw new BlockError('unsupported', 'the drive cannot do this');
      throw blockErrorOf(error);
    }
  }

  async #keep(fd: number): Promise<void> {
    const before = this.#watch;
    this.#watch = fd;
    if (before !== undefined) await this.#options.calls.close(before);
  }

  async #forget(): Promise<void> {
    const before = this.#watch;
    this.#watch = undefined;
    if (before !== undefined) await this.#options.calls.close(before);
  }
}

const openFd = promisify(fs.open);
const closeFd = promisify(fs.close);

/** The system calls of this computer. */
export function driveCalls(native: FileCalls): DriveCalls {
  return {
    open: (path, flags) => openFd(path, flags),
    close: (fd) => closeFd(fd),
    control: (fd, request, value) => native.control(fd, request, value),
    sequence: (fd) => native.diskSequence(fd),
    size: (fd) => native.deviceSize(fd),
  };
}

/** A short name of this boot: 12 hexadecimal digits. */
export function bootName(): string {
  return createHash('sha256')
    .update(bootId() || String(process.pid))
    .digest('hex')
    .slice(0, 12);
}
