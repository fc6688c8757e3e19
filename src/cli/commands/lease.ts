/**
 * `farbus lease`: shows or moves the lease of a device that a server and its operating system
 * share.
 */
import { usageError } from '../../base/errors.js';
import { jsonLine, visible } from '../../base/printable.js';
import { control } from '../../app/site/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { parseOptions } from '../options.js';
import { findSite } from '../../app/site/site.js';

export const help = `farbus lease: who writes on a device that a server computer shares with its own operating system

Usage: farbus lease [SERVER/DEVICE TO] [--site SITE]

A device of a site with local: true is served to clients (network) and given to the server's own operating system (local).
One of the two writes at a time, and the other's writes are refused. Without arguments the leases are shown; with a
device and network or local, the lease moves there when the writes under way are over and durable.

Unmount the file system on the side that gives the lease away before it moves, and mount it on the other side after.

Options:
  --site SITE   which site, where several run
  --json        print the leases as a line of JSON

Examples:
  farbus lease
  farbus lease server/disk local
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('lease', args, {
    allowPositionals: true,
    options: { site: { type: 'string' }, json: { type: 'boolean', default: false } },
  });
  const [device, to, ...more] = positionals;
  if (more.length > 0 || (device !== undefined && to === undefined)) {
    throw usageError('farbus lease SERVER/DEVICE network, or local: say where the lease is to go');
  }
  const { path } = await findSite(io.env, values.site);
  const { reply, socket } = await control(
    path,
    device === undefined ? { op: 'status' } : { op: 'lease', device, to: to! },
    tellWaiting(io),
  );
  socket.destroy();
  const leases = reply.leases ?? [];
  if (values.json) io.stdout.write(jsonLine(leases));
  else if (leases.length === 0) io.stderr.write('farbus: no server of this site shares a device with its own system\n');
  else for (const one of leases) io.stdout.write(`${visible(`${one.device}: ${one.holder}`)}\n`);
  return 0;
}
