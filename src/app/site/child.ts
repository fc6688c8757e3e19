/**
 * Entry point of the process of one computer of a site. Only `farbus up` and `farbus demo` start
 * it.
 */
import { setMaxListeners } from 'node:events';
import { serveParent } from '../../site/process.node.js';
import { startHere } from './computer.js';

setMaxListeners(0);
// Without a listener, a warning of Node that can no longer be written would end this process.
// eslint-disable-next-line no-restricted-properties
process.stderr.on('error', () => undefined);
serveParent(startHere);
