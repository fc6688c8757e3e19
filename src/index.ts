/** Farbus as a library: everything that runs in a browser and in Node alike. Node's own parts are in `farbus/node`. */
export * from './base/buffers.js';
export * from './base/errors.js';
export * from './base/log.js';
export * from './base/steps.js';
export * from './block/base.js';
export * from './block/device.js';
export * from './block/errors.js';
export * from './storage/memory.js';
