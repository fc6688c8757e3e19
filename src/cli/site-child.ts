/** The process of one computer of a site: started by `farbus up`, and by nobody else. */
import { setMaxListeners } from 'node:events';
import { serveParent } from '../site/process.node.js';
import { guardOutput } from './io.js';
import { startHere } from './site-computer.js';

setMaxListeners(0);
guardOutput();
serveParent(startHere);
