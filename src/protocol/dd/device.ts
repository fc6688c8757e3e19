/**
 * Opens a device through dd on a server as a BlockDevice ([SYS] R3, R4), with several persistent
 * sessions.
 */
import { remoteDevice, type RemoteDevice, type RemoteKind } from '../channels/device.js';
import type { InitiatorOptions } from '../remote/initiator-device.js';
import type { Elevation } from '../ssh/uri.js';
import { connectShell, type CommandDialer } from './connect.js';
import { divide } from './translate.js';

export interface DdOptions extends InitiatorOptions {
  readonly path: string;
  /** The device's size in bytes, if the server cannot report it. */
  readonly size?: number | undefined;
  readonly elevation?: Elevation | undefined;
  /** Most sessions at the same time. Default 4. */
  readonly sessions?: number | undefined;
  /** Time limit for the start of a session, in seconds. Default 30. */
  readonly startSeconds?: number | undefined;
}

/** Most bytes that one run of dd moves. Zeroes need no transfer, so a run may be longer. */
const maxRun = 1 << 20;
const maxZeroRun = 32 << 20;
/** The start of a dd takes about a millisecond, longer than the transfer of 64 KiB. */
const preferredSize = 65536;

/** Opens the device. Rejects with a FarbusError. */
export async function connectDd(dialer: CommandDialer, options: DdOptions): Promise<RemoteDevice> {
  const { path, size, elevation, readOnly = false, startSeconds = 30 } = options;
  const open = (signal: AbortSignal | undefined) =>
    connectShell(dialer, { path, size, elevation, readOnly, startSeconds }, signal);
  const first = await open(options.signal);
  const { skipBytes, seekBytes } = first.facts;
  const kind: RemoteKind = {
    address: dialer.address,
    channels: options.sessions ?? 4,
    zeroes: true,
    preferredSize,
    divide: (op, offset, length) =>
      divide(offset, length, op === 'zero' ? maxZeroRun : maxRun, op === 'read' ? skipBytes : seekBytes),
  };
  return remoteDevice(first, open, kind, options);
}
