/** The device on a port of the AHCI adapter that shows a drive to the guest. */
import type { BlockDevice } from '../block/device.js';
import { AtaDisk } from '../device/ahci/ata-disk.js';
import type { SataDevice } from '../device/ahci/sata-device.js';
import type { DrivePlan } from './drives.js';
import { ataIdentityOf } from './identity.js';

/** @param medium The virtual I/O client in front of the far device. */
export function ahciDevice({ index }: DrivePlan, medium: BlockDevice): SataDevice {
  return new AtaDisk(medium, ataIdentityOf(medium.info, `drive${index}`, 'Farbus ATA Disk'));
}
