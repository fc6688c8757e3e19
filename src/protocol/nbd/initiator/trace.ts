/**
 * Trace steps 262 and 264 of the virtual I/O client ([SYS] fig. 8) for one request, with its
 * cookie, by which the server's steps are found.
 */
import type { Steps } from '../../../base/steps.js';
import { cookieOf, requestText } from '../request-text.js';
import { NbdCommand } from '../spec.js';
import type { NbdRequest } from './request.js';

/**
 * A request was sent on the connection with the number `id`. After a reconnect it is sent again
 * with another cookie.
 */
export function traceSent(steps: Steps, { type, offset, length, traceId, cookie }: NbdRequest, id: number): void {
  const wire = cookieOf(id, cookie);
  const step = type === NbdCommand.read ? '262' : '264';
  steps.step(traceId, step, `NBD cookie #${wire}: ${requestText(type, offset, length)}`, performance.now(), wire);
}
