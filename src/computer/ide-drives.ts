/**
 * The drives of a computer on its board's own IDE controller: remote devices behind virtual I/O
 * clients.
 */
import { buffersOf } from '../base/buffers.js';
import { FarbusError } from '../base/errors.js';
import { maxIdeDisks, type IdeDisk } from '../machine/ide-disk.js';
import type { IdentifiedPlan } from './drives.js';
import type { VirtualIoClient } from './virtual-io-client.js';

/**
 * Translates the plans of the bus `ide` into disks for the engine.
 * @param clients The virtual I/O clients of the plans, in order.
 * @throws FarbusError if there are more than the controller can have
 */
export function ideDisks(plans: readonly IdentifiedPlan[], clients: readonly VirtualIoClient[]): IdeDisk[] {
  if (plans.length > maxIdeDisks) throw new FarbusError(`the bus ide has room for ${maxIdeDisks} disks, not more`);
  return plans.map((plan, i) => ideDisk(plan, clients[i]!));
}

function ideDisk({ identity }: IdentifiedPlan, client: VirtualIoClient): IdeDisk {
  const { info } = client;
  return {
    size: info.size - (info.size % 512),
    readOnly: info.readOnly,
    writeCache: info.can.flush,
    identity,
    read: (offset, into) => client.read(offset, buffersOf(into)),
    write: (offset, from) => client.write(offset, buffersOf(from)),
    flush: () => client.flush(),
  };
}
