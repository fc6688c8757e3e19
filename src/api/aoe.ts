/**
 * `farbus/aoe`: both sides of ATA over Ethernet on any segment (`farbus/ethernet`): the initiator,
 * which is a BlockDevice, and the target. Runs in Node, in browsers and in workers; `farbus/node`
 * opens segments of this computer.
 *
 * @example Both sides on a segment within this program
 * ```ts
 * import { MemoryDevice } from 'farbus';
 * import { AoeTarget, connectAoe } from 'farbus/aoe';
 * import { Hub } from 'farbus/ethernet';
 *
 * const segment = new Hub();
 * const target = new AoeTarget(segment, new MemoryDevice(64 << 20), { shelf: 1, slot: 0 });
 * const disk = await connectAoe(segment, { shelf: 1, slot: 0 });
 * await disk.write(0, new Uint8Array(512));
 * await disk.close();
 * await target.close();
 * await segment.close();
 * ```
 * @module farbus/aoe
 */
export { initiatorClaim, targetClaim } from '../protocol/aoe/claim.js';
export { discoverAoe } from '../protocol/aoe/initiator/discover.js';
export type { FoundTarget } from '../protocol/aoe/initiator/discover.js';
export { connectAoe } from '../protocol/aoe/initiator/initiator.js';
export type { AoeInitiator, AoeOptions } from '../protocol/aoe/initiator/initiator.js';
export type { LinkCounters as AoeInitiatorCounters } from '../protocol/aoe/initiator/link-options.js';
export { AoeTarget } from '../protocol/aoe/target/target.js';
export type { AoeTargetCounters, AoeTargetOptions } from '../protocol/aoe/target/target-options.js';
export { parseAoe } from '../protocol/aoe/uri.js';
export type { AoeAddress } from '../protocol/aoe/uri.js';
