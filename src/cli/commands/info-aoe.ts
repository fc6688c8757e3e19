/** `farbus info aoe:@SEGMENT`: lists the AoE targets that answer on a segment. */
import { FarbusError } from '../../base/errors.js';
import { jsonLine, visible } from '../../base/printable.js';
import { formatMac } from '../../network/ethernet/mac.js';
import type { FoundTarget } from '../../protocol/aoe/initiator/discover.js';
import { listAoe } from '../../protocol/aoe/initiator/open.node.js';
import type { CliIo } from '../ui/io.js';
import { onSignals } from '../ui/signals.js';

export async function printTargets(segment: string, json: boolean, io: CliIo): Promise<number> {
  const signals = onSignals();
  try {
    const targets = await signals.during(listAoe(segment, signals.signal));
    if (targets.length === 0) {
      throw new FarbusError(`no AoE target answers on ${segment}: is one up, on the same segment?`);
    }
    const found = targets.map((target) => describe(segment, target));
    if (json) io.stdout.write(jsonLine({ segment, targets: found }));
    else
      for (const { source, mac, config } of found)
        io.stdout.write(`${visible(`${source}  ${mac}  ${config}`).trimEnd()}\n`);
    return 0;
  } finally {
    signals.stop();
  }
}

function describe(segment: string, { shelf, slot, mac, text, sectors, bufferCount }: FoundTarget) {
  return {
    source: `aoe:${shelf}.${slot}@${segment}`,
    mac: formatMac(mac),
    config: new TextDecoder().decode(text),
    sectors,
    bufferCount,
  };
}
