/** Opens a file or device on an SFTP server as a BlockDevice. */
import type { ByteStream } from '../../network/stream.js';
import { remoteDevice, type RemoteDevice, type RemoteKind } from '../channels/device.js';
import type { InitiatorOptions } from '../remote/initiator-device.js';
import { openSftpChannel, type SftpChannel } from './channel.js';
import type { ServerProcess } from './facts.js';

export interface SftpOptions extends InitiatorOptions {
  /** The address, for messages. */
  readonly address: string;
  readonly path: string;
  /** The device's size in bytes, if the server cannot report it. */
  readonly size?: number | undefined;
  /** Most connections at the same time. Default 1. */
  readonly sessions?: number | undefined;
  /** Time limit for the start of a connection, in seconds. Default 30. */
  readonly startSeconds?: number | undefined;
  /**
   * Kills a process on the server by other means than SFTP, after a check that it is still the same
   * process.
   */
  readonly kill: (old: ServerProcess) => Promise<void>;
}

/** Parts of a long request begin at multiples of this, relative to its start, in bytes. */
const unit = 4096;
const preferredSize = 4096;

/** Opens the device. Rejects with a FarbusError, of the kind `method` if dd may work. */
export async function connectSftp(
  dial: (signal: AbortSignal) => Promise<ByteStream>,
  options: SftpOptions,
): Promise<RemoteDevice> {
  const { address, path, size, readOnly = false, startSeconds = 30, kill } = options;
  const wish = { address, path, size, readOnly, startSeconds, kill };
  const open = (signal: AbortSignal | undefined): Promise<SftpChannel> => openSftpChannel(dial, wish, signal);
  const first = await open(options.signal);
  const { readLength, writeLength } = first.facts;
  const kind: RemoteKind = {
    address,
    channels: options.sessions ?? 1,
    zeroes: false,
    preferredSize,
    divide: (op, offset, length) => divideEvenly(offset, length, op === 'read' ? readLength : writeLength),
  };
  return remoteDevice(first, open, kind, options);
}

/** Splits a range into as few parts as possible, none longer than `most`, all of similar length. */
export function divideEvenly(offset: number, length: number, most: number): { offset: number; length: number }[] {
  if (length <= most) return [{ offset, length }];
  const even = Math.ceil(length / Math.ceil(length / most));
  const step = Math.min(most, Math.ceil(even / unit) * unit);
  const parts: { offset: number; length: number }[] = [];
  for (let done = 0; done < length; done += step) {
    parts.push({ offset: offset + done, length: Math.min(step, length - done) });
  }
  return parts;
}
