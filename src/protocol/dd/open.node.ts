/** Opens devices by ssh+dd URIs, with this computer's ssh program. */
import { sshDialer } from '../../network/ssh.node.js';
import type { RemoteDevice } from '../channels/device.js';
import type { InitiatorOptions } from '../remote/initiator-device.js';
import { formatRemote, parseRemoteUri, type RemoteAddress } from '../ssh/uri.js';
import type { CommandDialer } from './connect.js';
import { connectDd } from './device.js';

/** Runs commands on an address's server by ssh. */
export function sshCommands(address: RemoteAddress): CommandDialer {
  const name = formatRemote(address);
  return {
    address: name,
    run: (command, signal) => sshDialer({ ...address, address: name }, () => ({ command })).connect(signal),
  };
}

/** Opens a device by dd over ssh. Rejects with a FarbusError. */
export async function openSshDd(uri: string, options: InitiatorOptions = {}): Promise<RemoteDevice> {
  return openDdAt(parseRemoteUri(uri), options);
}

export function openDdAt(address: RemoteAddress, options: InitiatorOptions): Promise<RemoteDevice> {
  const { path, size, elevation, sessions } = address;
  return connectDd(sshCommands(address), { ...options, path, size, elevation, sessions });
}
