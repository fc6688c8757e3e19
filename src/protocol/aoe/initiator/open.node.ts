/** Opens an AoE target by name, on a segment that is opened for it and closed with it. */
import { openSegment } from '../../../network/ethernet/open.node.js';
import { AOE_TYPE } from '../spec.js';
import { parseAoe } from '../uri.js';
import { discoverAoe, type FoundTarget } from './discover.js';
import { connectAoe, type AoeInitiator, type AoeOptions } from './initiator.js';

/** Opens `aoe:SHELF.SLOT@SEGMENT`. Rejects with a FarbusError. */
export async function openAoe(text: string, options: Omit<AoeOptions, 'shelf' | 'slot'> = {}): Promise<AoeInitiator> {
  const { shelf, slot, segment: name } = parseAoe(text);
  const { log } = options;
  const segment = await openSegment(name, { etherType: AOE_TYPE, ...(log && { log }) });
  try {
    return await connectAoe(segment, { ...options, shelf, slot, closeSegment: true });
  } catch (error) {
    await segment.close();
    throw error;
  }
}

/**
 * Lists the targets on a segment, which is opened for that. Rejects with a FarbusError, or with the
 * signal's reason.
 */
export async function listAoe(name: string, signal: AbortSignal): Promise<FoundTarget[]> {
  const segment = await openSegment(name, { etherType: AOE_TYPE });
  try {
    return await discoverAoe(segment, { signal });
  } finally {
    await segment.close();
  }
}
