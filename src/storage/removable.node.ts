/**
 * Opens a removable drive of this computer with or without a medium: `/dev/sr0`, a card reader, a
 * USB stick. Linux with koffi only. Otherwise, and for partitions, the drive is opened like any
 * disk and must have a medium.
 */
import fs from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { PolledDrive } from '../block/polled-drive.js';
import { openBlockDevice } from './block-device.node.js';
import { fileCalls } from '../linux/files.node.js';
import { bootName, driveCalls, LinuxDrive } from './linux-drive.node.js';
import { openError, pathIdentity, printable, type OpenOptions } from './opening.node.js';
import { blockFacts, deviceNumber } from './sysfs.node.js';

/** linux/cdrom.h: an ioctl that every CD/DVD drive answers, and no other device. */
const CDROM_GET_CAPABILITY = 0x5331;
const { O_RDONLY, O_NONBLOCK, O_DSYNC } = fs.constants;

/**
 * Opens the drive at `path`; undefined if it is not a drive whose medium can be watched.
 * @throws FarbusError if it cannot be used as the options demand
 */
export async function openRemovable(path: string, options: OpenOptions): Promise<BlockDevice | undefined> {
  const native = options.native === false ? undefined : fileCalls();
  if (!native) return undefined;
  const real = await realpath(path);
  const facts = await blockFacts(deviceNumber((await stat(real, { bigint: true })).rdev));
  if (!facts.removable || facts.partition) return undefined;
  const calls = driveCalls(native);
  let optical: boolean;
  try {
    const fd = await calls.open(real, O_RDONLY | O_NONBLOCK);
    optical = await calls
      .control(fd, CDROM_GET_CAPABILITY, 0)
      .then(
        () => true,
        () => false,
      )
      .finally(() => calls.close(fd));
  } catch (error) {
    throw openError(path, error, options);
  }
  if (optical && options.readOnly === false) {
    throw new FarbusError(`cannot open ${printable(path)} to write: discs are only read here: choose another place`);
  }
  // O_NONBLOCK: opening a CD/DVD drive without it locks the tray.
  const openMedium = (): Promise<BlockDevice> =>
    optical
      ? openBlockDevice(real, { ...options, readOnly: true }, O_NONBLOCK)
      : openBlockDevice(real, options, O_DSYNC);
  let unusable: string | undefined;
  const drive = await PolledDrive.open(
    {
      identity: facts.wwid === '' ? await pathIdentity(real) : `disk:${facts.wwid}`,
      readOnly: optical || options.readOnly === true,
      rotational: facts.rotational,
      blockSize: optical ? 2048 : 512,
    },
    new LinuxDrive({ path: real, calls, optical, boot: bootName(), openMedium }),
    (why) => (unusable = why),
  );
  if (unusable === undefined) return drive;
  await drive.close();
  throw new FarbusError(unusable);
}
