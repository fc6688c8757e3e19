/**
 * `ssh://`: SFTP where the server offers it and it can do everything, else dd. SFTP has more requests under way and needs no
 * process for each; dd can be the administrator, and learn how long devices are that SFTP cannot measure.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import { SshUnreachable } from '../../network/ssh.node.js';
import { openDdAt } from '../dd/open.node.js';
import { SftpUnsuited } from '../sftp/facts.js';
import { openSftpAt } from '../sftp/open.node.js';
import type { RemoteDevice, RemoteOptions } from './device.js';
import { formatRemote, parseRemoteUri } from './uri.js';

/** Opens a device on a server that has ssh and nothing else of ours. Rejects with a FarbusError. */
export async function openSsh(uri: string, options: RemoteOptions = {}): Promise<RemoteDevice> {
  const address = parseRemoteUri(uri);
  if (address.elevation !== undefined) return openDdAt(address, options);
  const say = (why: string): void => options.log?.log('info', `${formatRemote(address)}: by dd, as ${why}`);
  let bySftp: RemoteDevice;
  try {
    bySftp = await openSftpAt(address, options);
  } catch (error) {
    // What the file itself is lacking, dd would lack as well.
    if (
      error instanceof SshUnreachable ||
      (error instanceof FarbusError && /^cannot open/.test(error.message) && !(error instanceof SftpUnsuited))
    ) {
      throw error;
    }
    say(messageOf(error));
    return openDdAt(address, options);
  }
  if (bySftp.info.readOnly || bySftp.info.can.flush) return bySftp;
  await bySftp.close();
  say('the SFTP server cannot flush');
  return openDdAt(address, options);
}
