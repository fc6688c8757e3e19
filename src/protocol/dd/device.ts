/** dd on a server as a BlockDevice ([SYS] R3, R4): kept sessions, several side by side. */
import { remoteDevice, type RemoteDevice, type RemoteKind, type RemoteOptions } from '../ssh/device.js';
import type { Elevation } from '../ssh/uri.js';
import { connectShell, type CommandDialer } from './connect.js';
import { divide } from './translate.js';

export interface DdOptions extends RemoteOptions {
  readonly path: string;
  /** The device's length in bytes, where the server cannot tell. */
  readonly size?: number | undefined;
  readonly elevation?: Elevation | undefined;
  /** Sessions side by side at most. Default 4. */
  readonly sessions?: number | undefined;
  /** Limit for the start of a session, in seconds. Default 30. */
  readonly startSeconds?: number | undefined;
}

/** Bytes that one run of dd moves at most; zeroes cost no transfer. */
const maxRun = 1 << 20;
const maxZeroRun = 32 << 20;
/** A dd costs a millisecond to start: more than 64 KiB to move. */
const preferredSize = 65536;

/** Opens the device. Rejects with a FarbusError. */
export async function connectDd(dialer: CommandDialer, options: DdOptions): Promise<RemoteDevice> {
  const { path, size, elevation, readOnly = false, startSeconds = 30 } = options;
  const open = (signal: AbortSignal) => connectShell(dialer, { path, size, elevation, readOnly, startSeconds }, signal);
  const first = await open(new AbortController().signal);
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
