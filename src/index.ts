/**
 * Farbus as a library: everything that runs in a browser and in Node alike. Node's own parts are in
 * `farbus/node`.
 */
export * from './base/buffers.js';
export * from './base/errors.js';
export * from './base/log.js';
export * from './base/steps.js';
export * from './block/base.js';
export * from './block/device.js';
export * from './block/errors.js';
export * from './block/filters/cache-store.js';
export * from './block/filters/delay.js';
export * from './block/filters/fault.js';
export * from './block/filters/filter.js';
export * from './block/filters/overlay-store.js';
export * from './block/filters/lease.js';
export * from './block/filters/merge.js';
export * from './block/filters/read-only.js';
export * from './block/filters/rate.js';
export * from './block/filters/readahead.js';
export * from './block/filters/record.js';
export * from './block/filters/slice.js';
export * from './block/filters/trace.js';
export * from './computer/client.js';
export * from './computer/computer.js';
export * from './computer/guest-end.js';
export * from './computer/server.js';
export * from './computer/shared-adapter.js';
export * from './computer/console.js';
export * from './export/nbd/address.js';
export * from './export/exports.js';
export * from './export/nbd/server.js';
export * from './machine/boot/linux.js';
export * from './machine/engine.js';
export * from './machine/engines/v86/engine.js';
export * from './machine/snapshot.js';
export * from './network/ethernet/hub.js';
export * from './network/ethernet/mac.js';
export * from './network/ethernet/segment.js';
export * from './network/stream.js';
export * from './protocol/nbd/initiator/initiator.js';
export * from './protocol/nbd/uri.js';
export * from './probe/probe.js';
export * from './storage/memory.js';
