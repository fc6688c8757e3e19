/**
 * Chooses the logical device for each remote device, from which a computer is built.
 */
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { tailWarning } from '../block/tail.js';
import type { Logger } from '../base/log.js';
import { identifyDrives, type DriveIdentity, type SaidIdentity } from './identity.js';
import { maxIdeSize } from '../machine/ide-disk.js';

/** Largest number of drives: their controllers use the PCI slots 8 to 29. */
export const maxDrives = 22;

/**
 * The controller of a drive: an NVMe controller of its own, a port of the AHCI adapter, or the
 * board's IDE controller.
 */
export type DriveBus = 'nvme' | 'ahci' | 'ide';

/**
 * `cdrom` and `removable` have a medium that can be ejected and inserted. Both are on the AHCI
 * adapter.
 */
export type DriveKind = 'disk' | 'cdrom' | 'removable';

/** A drive of a computer. */
export interface ClientDrive extends SaidIdentity {
  /**
   * The medium; undefined for a drive that is empty at first. A `disk` may be empty on the bus
   * `ahci`: its port has no disk until one is attached (AhciDrives.attach).
   */
  readonly device: BlockDevice | undefined;
  /** Default: `nvme` for a disk, `ahci` for the others. */
  readonly bus?: DriveBus;
  /** Default: `disk`. */
  readonly kind?: DriveKind;
  /** The user asserts that this is the disk of the snapshot to be restored. Default: false. */
  readonly assumeSame?: boolean | undefined;
}

/** A drive whose defaults are filled in. */
export interface DrivePlan extends SaidIdentity {
  readonly index: number;
  readonly bus: DriveBus;
  readonly kind: DriveKind;
  readonly device: BlockDevice | undefined;
  readonly assumeSame: boolean;
}

/** A drive whose identity is known. */
export interface IdentifiedPlan extends DrivePlan {
  readonly identity: DriveIdentity;
}

/** Default model names by kind and bus. */
const models = {
  disk: { nvme: 'Farbus NVMe Disk', ahci: 'Farbus ATA Disk', ide: 'Farbus IDE Disk' },
  cdrom: 'Farbus DVD',
  removable: 'Farbus Removable',
} as const;

/**
 * Finds the identities of all drives of a computer.
 * @throws FarbusError if what the user has given is invalid
 */
export async function identifyPlans(plans: readonly DrivePlan[], log: Logger): Promise<IdentifiedPlan[]> {
  const ownModel = ({ kind, bus }: DrivePlan): string => (kind === 'disk' ? models.disk[bus] : models[kind]);
  const drives = plans.map((plan) => ({ ...plan, ownModel: ownModel(plan) }));
  for (const { index, kind, device } of plans) {
    const warning = device && guestTail(`drive ${index}`, device, kind);
    if (warning !== undefined) log.log('warn', warning);
  }
  const identities = await identifyDrives(drives, log);
  return plans.map((plan, i) => ({ ...plan, identity: identities[i]! }));
}

/**
 * Fills in the defaults of `drive`. A plain block device becomes an NVMe disk.
 * @throws FarbusError if there cannot be such a drive
 */
export function planDrive(drive: BlockDevice | ClientDrive, index: number): DrivePlan {
  const {
    device,
    kind = 'disk',
    bus = kind === 'disk' ? 'nvme' : 'ahci',
    serial,
    model,
    assumeSame = false,
  }: ClientDrive = 'info' in drive ? { device: drive } : drive;
  if (kind !== 'disk' && bus !== 'ahci')
    throw new FarbusError(`drive ${index}: only the bus ahci has removable drives`);
  if (kind === 'disk') {
    if (device) checkDisk(device, index);
    else if (bus !== 'ahci') throw new FarbusError(`drive ${index} is a disk and needs a device`);
    if (device && bus === 'ide' && (device.info.blockSize > 512 || device.info.size > maxIdeSize)) {
      throw new FarbusError(`drive ${index}: the bus ide has disks of 512-byte blocks below 1 TiB: use ahci or nvme`);
    }
  }
  return { index, bus, kind, device, serial, model, assumeSame };
}

/**
 * A one-line warning about the end of a medium that a guest cannot use, because its drives have
 * whole sectors: 512 bytes, or 2048 on a disc. Undefined if the guest can use all of it.
 */
export function guestTail(name: string, { info }: BlockDevice, kind: DriveKind): string | undefined {
  // `info.tail` concerns all users of the device and is reported where the device is opened; set it
  // to 0 here.
  return tailWarning(name, { ...info, tail: 0 }, Math.max(kind === 'cdrom' ? 2048 : 512, info.blockSize));
}

/** @throws FarbusError if a disk of a guest cannot be like this */
export function checkDisk({ info }: BlockDevice, index: number): void {
  if (info.blockSize > 4096) {
    throw new FarbusError(`drive ${index} has blocks of ${info.blockSize} bytes: a guest can use at most 4096`);
  }
  if (info.size < 512) throw new FarbusError(`drive ${index} is empty: it needs at least one sector of 512 bytes`);
}
