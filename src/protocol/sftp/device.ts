/** A file or device on an SFTP server as a BlockDevice. */
import type { ByteStream } from '../../network/stream.js';
import { remoteDevice, type RemoteDevice, type RemoteKind, type RemoteOptions } from '../ssh/device.js';
import { openSftpChannel, type SftpChannel } from './channel.js';
import type { ServerProcess } from './facts.js';

export interface SftpOptions extends RemoteOptions {
  /** For messages. */
  readonly address: string;
  readonly path: string;
  /** The device's length in bytes, where the server cannot tell. */
  readonly size?: number | undefined;
  /** Connections side by side at most. Default 1. */
  readonly sessions?: number | undefined;
  /** Limit for the start of a connection, in seconds. Default 30. */
  readonly startSeconds?: number | undefined;
  /** Ends a process on the server, if it is still the one that is meant, by other means than SFTP. */
  readonly kill: (old: ServerProcess) => Promise<void>;
}

/** Parts of a long request begin at multiples of this, in bytes. */
const unit = 4096;
const preferredSize = 4096;

/** Opens the device. Rejects with a FarbusError; with an SftpUnsuited where dd may do better. */
export async function connectSftp(
  dial: (signal: AbortSignal) => Promise<ByteStream>,
  options: SftpOptions,
): Promise<RemoteDevice> {
  const { address, path, size, readOnly = false, startSeconds = 30, kill } = options;
  const wish = { address, path, size, readOnly, startSeconds, kill };
  const open = (signal: AbortSignal): Promise<SftpChannel> => openSftpChannel(dial, wish, signal);
  const first = await open(new AbortController().signal);
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

/** As few parts as possible, none longer than `most`, of about one length. */
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
