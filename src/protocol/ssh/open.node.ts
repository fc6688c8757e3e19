/**
 * Opens `ssh://` addresses: by SFTP if the server offers it and it suffices, else by dd.
 *
 * SFTP has more requests in flight and needs no process for each. dd can run as the administrator,
 * and can find the size of devices that SFTP cannot measure.
 */
import { isFailure, messageOf } from '../../base/errors.js';
import { openDdAt } from '../dd/open.node.js';
import { openSftpAt } from '../sftp/open.node.js';
import type { RemoteDevice } from '../channels/device.js';
import type { InitiatorOptions } from '../remote/initiator-device.js';
import { formatRemote, parseRemoteUri } from './uri.js';

/** Opens a device on a server that runs ssh but no Farbus. Rejects with a FarbusError. */
export async function openSsh(uri: string, options: InitiatorOptions = {}): Promise<RemoteDevice> {
  const address = parseRemoteUri(uri);
  if (address.elevation !== undefined) return openDdAt(address, options);
  const say = (why: string): void => options.log?.log('info', `${formatRemote(address)}: by dd, as ${why}`);
  let bySftp: RemoteDevice;
  try {
    bySftp = await openSftpAt(address, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    // A fault of the file itself would stop dd too.
    if (isFailure(error, 'unreachable') || isFailure(error, 'device')) throw error;
    say(messageOf(error));
    return openDdAt(address, options);
  }
  if (bySftp.info.readOnly || bySftp.info.can.flush) return bySftp;
  await bySftp.close();
  say('the SFTP server cannot flush');
  return openDdAt(address, options);
}
