/**
 * Farbus as a library in Node: what `farbus` exports, and what needs Node's files, sockets and
 * programs.
 */
export * from './index.js';
export * from './guest/debian.node.js';
export * from './machine/snapshot-file.node.js';
export * from './network/dial.node.js';
export * from './network/listen.node.js';
export * from './network/tls-files.node.js';
export * from './network/tls.node.js';
export * from './protocol/dd/open.node.js';
export * from './protocol/rsh/open.node.js';
export * from './protocol/nbd/initiator/open.node.js';
export * from './protocol/qemu/open.node.js';
export * from './protocol/sftp/open.node.js';
export * from './protocol/ssh/open.node.js';
export * from './storage/cache-file.node.js';
export * from './storage/open.node.js';
export * from './storage/overlay-file.node.js';
