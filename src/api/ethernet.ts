/**
 * `farbus/ethernet`: Ethernet segments: the interface, a hub within the program, and MAC addresses.
 * Runs in Node, in browsers and in workers; `openSegment` of `farbus/node` opens interfaces, TAP
 * devices, VXLAN and UDP.
 *
 * @example Two stations on a hub
 * ```ts
 * import { Hub } from 'farbus/ethernet';
 *
 * const hub = new Hub();
 * hub.attach({ onFrame: (frame) => console.log(frame.length) });
 * const port = hub.attach({ onFrame: () => undefined });
 * const frame = new Uint8Array(60).fill(0xff, 0, 6); // to all
 * frame.set(port.mac, 6);
 * port.send(frame);
 * ```
 * @module farbus/ethernet
 */
export { BaseSegment } from '../network/ethernet/base-segment.js';
export type { FrameFaults } from '../network/ethernet/faults.js';
export { Hub } from '../network/ethernet/hub.js';
export type { HubOptions } from '../network/ethernet/hub.js';
export { broadcastMac, formatMac, parseMac, randomMac } from '../network/ethernet/mac.js';
export type { Mac } from '../network/ethernet/mac.js';
export type { Port, PortOptions, Segment, SegmentCounters } from '../network/ethernet/segment.js';
