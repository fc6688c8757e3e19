/**
 * Entry point of the process of one computer of a site. Only `farbus up` and `farbus demo` start
 * it.
 */
import { setMaxListeners } from 'node:events';
import { serveParent } from '../../site/process.node.js';
import { guardOutput } from '../../cli/ui/io.js';
import { startHere } from './computer.js';

setMaxListeners(0);
guardOutput();
serveParent(startHere);
