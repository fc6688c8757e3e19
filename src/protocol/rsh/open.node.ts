/**
 * Opens devices by rsh URIs ([SYS] R3, fig. 13): with persistent sessions, or with one command per
 * request (`literal`).
 */
import { rshRun, rshStream, type RshTarget } from '../../network/rsh.node.js';
import { remoteDevice, type RemoteDevice } from '../channels/device.js';
import type { InitiatorOptions } from '../remote/initiator-device.js';
import { formatRemote, parseRemoteUri, type RemoteAddress } from '../ssh/uri.js';
import { connectShell, type CommandDialer } from '../dd/connect.js';
import { connectDd } from '../dd/device.js';
import { LiteralChannel, ddBlock } from './literal.js';
import { divide } from '../dd/translate.js';

const startSeconds = 30;
/** Most bytes that one command moves. */
const maxRun = 1 << 20;

/** Opens a device by dd over rsh. Rejects with a FarbusError. */
export async function openRsh(uri: string, options: InitiatorOptions = {}): Promise<RemoteDevice> {
  const address = parseRemoteUri(uri);
  const target = { ...address, address: formatRemote(address) };
  options.log?.log(
    'warn',
    `${target.address}: rsh encrypts nothing and asks for no password: use it on a network of your own only`,
  );
  const { path, size, elevation, sessions, literal } = address;
  if (literal) return openLiteral(target, address, options);
  return connectDd(rshCommands(target), { ...options, path, size, elevation, sessions });
}

function rshCommands(target: RshTarget): CommandDialer {
  return {
    address: target.address,
    hint: 'the server must know this computer and user: in .rhosts of the user there, mode 600',
    run: (command, signal) => rshStream(target, command, signal),
  };
}

async function openLiteral(
  target: RshTarget,
  { path, size }: RemoteAddress,
  options: InitiatorOptions,
): Promise<RemoteDevice> {
  const runner = {
    address: target.address,
    run: (command: string, given: Parameters<typeof rshRun>[2]) => rshRun(target, command, given),
  };
  const open = async (signal: AbortSignal | undefined): Promise<LiteralChannel> => {
    // A session of the script finds the size and the abilities of dd.
    const shell = await connectShell(
      rshCommands(target),
      { path, size, readOnly: options.readOnly ?? false, startSeconds },
      signal,
    );
    await shell.close();
    return new LiteralChannel(runner, shell.facts, path);
  };
  const first = await open(options.signal);
  return remoteDevice(
    first,
    open,
    {
      address: target.address,
      channels: 1,
      zeroes: false,
      preferredSize: Math.max(ddBlock, 65536),
      divide: (_op, offset, length) => divide(offset, length, maxRun, true),
    },
    options,
  );
}
