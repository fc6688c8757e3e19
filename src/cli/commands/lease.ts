/**
 * `farbus lease`: shows or moves the lease of a device that a server and its operating system
 * share.
 */
import { usageError } from '../../base/errors.js';
import { jsonLine, visible } from '../../base/printable.js';
import { askControl } from '../../app/control/client.js';
import type { SiteStatus } from '../../app/site/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { findSite } from '../../app/site/site.js';

const options = {
  site: { value: 'SITE', about: 'the site, if several run' },
  json: { about: 'print the leases as a line of JSON' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'lease',
  summary: 'show or move the right to write on a shared device',
  usage: ['[SERVER/DEVICE TO] [--site SITE]', 'SITE'],
  about: `
    A device of a site with local: true is served to clients (network) and given to the server's own operating system
    (local). One side writes at a time, and the writes of the other are refused. Without a device the leases are shown;
    with a device and network or local, the lease moves there once the writes in flight are complete and durable.

    Unmount the file system on the side that gives the lease away before it moves, and mount it on the other side
    afterwards.`,
  options,
  examples: ['farbus lease', 'farbus lease server/disk local'],
  pages: ['site'],
  operands: [],
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [device, to, ...more] = operands;
  const names = device !== undefined && to === undefined && !device.includes('/');
  if (more.length > 0 || (device !== undefined && to === undefined && !names) || (names && values.site !== undefined)) {
    throw usageError('farbus lease SERVER/DEVICE network, or local: say where the lease is to go');
  }
  const { path } = await findSite(io.env, names ? device : values.site);
  const request = to === undefined ? { command: 'status' } : { command: 'lease', device, to };
  const { leases } = (await askControl(path, request, { onWorking: tellWaiting(io) })) as Pick<SiteStatus, 'leases'>;
  if (values.json) io.stdout.write(jsonLine(leases));
  else if (leases.length === 0) io.stderr.write('farbus: no server of this site shares a device with its own system\n');
  else for (const one of leases) io.stdout.write(`${visible(`${one.device}: ${one.holder}`)}\n`);
  return 0;
}
