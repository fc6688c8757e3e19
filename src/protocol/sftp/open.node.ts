/** Opens devices by ssh+sftp URIs, with this computer's ssh program. */
import { Deadline } from '../../base/deadline.js';
import { isFailure } from '../../base/errors.js';
import { sshDialer } from '../../network/ssh.node.js';
import { connectShell } from '../dd/connect.js';
import { newNames, startCommand } from '../dd/script.js';
import { sshCommands } from '../dd/open.node.js';
import type { RemoteDevice } from '../channels/device.js';
import type { InitiatorOptions } from '../remote/initiator-device.js';
import { formatRemote, parseRemoteUri, type RemoteAddress } from '../ssh/uri.js';
import { connectSftp } from './device.js';
import type { ServerProcess } from './facts.js';

/** Time limit for killing an old process, in ms. */
const killMs = 15_000;

/** Opens a file or device by SFTP. Rejects with a FarbusError. */
export async function openSshSftp(uri: string, options: InitiatorOptions = {}): Promise<RemoteDevice> {
  return openSftpAt(parseRemoteUri(uri), options);
}

/**
 * Opens a device by SFTP. If SFTP cannot find its size, a dd session on the login shell is asked
 * for it.
 */
export async function openSftpAt(address: RemoteAddress, options: InitiatorOptions): Promise<RemoteDevice> {
  const name = formatRemote(address);
  const dialer = sshDialer({ ...address, address: name }, () => ({ subsystem: 'sftp' }));
  const open = (size: number | undefined): Promise<RemoteDevice> =>
    connectSftp((signal) => dialer.connect(signal), {
      ...options,
      address: name,
      path: address.path,
      size,
      sessions: address.sessions,
      kill: (old) => killByShell(address, old),
    });
  try {
    return await open(address.size);
  } catch (error) {
    if (!isFailure(error, 'method')) throw error;
    options.signal?.throwIfAborted();
    const size = await sizeByShell(address, options.signal).catch(() => undefined);
    if (size === undefined) throw error;
    return open(size);
  }
}

async function sizeByShell(address: RemoteAddress, signal: AbortSignal | undefined): Promise<number> {
  const wish = { path: address.path, readOnly: true, startSeconds: 30 };
  const shell = await connectShell(sshCommands(address), wish, signal);
  await shell.close();
  return shell.facts.size;
}

/**
 * Kills an SFTP server's process by a command of the login shell. The command first checks the
 * start time, so that no other process with a reused id is killed. The caller must check the
 * result.
 */
async function killByShell(address: RemoteAddress, { pid, start }: ServerProcess): Promise<void> {
  const limit = new Deadline(killMs);
  const look = `read -r s </proc/${pid}/stat; set -- \${s##*) }; [ "\${20}" = ${start} ] && kill -9 ${pid}; exit`;
  try {
    const stream = await sshCommands(address).run(startCommand(newNames().token), limit.signal);
    limit.signal.addEventListener('abort', () => stream.destroy());
    await new Promise<void>((resolve) => {
      stream.attach({ data: () => undefined, drain: () => undefined, closed: () => resolve() });
      stream.write([new TextEncoder().encode(`${look}\n`)]);
    });
  } finally {
    limit.end();
  }
}
