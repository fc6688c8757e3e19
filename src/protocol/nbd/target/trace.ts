/**
 * Trace steps of the virtual I/O server for one request, by its cookie: [SYS] fig. 9 (280, 281) and
 * fig. 10. If a write's data goes to the device as it arrives, steps 285 and 286 are reported after
 * its last byte.
 */
import type { Steps } from '../../../base/steps.js';
import { cookieOf, requestText } from '../request-text.js';
import { NbdCommand } from '../spec.js';
import type { Request } from './requests.js';

/** A request has arrived. The data of a write may still be arriving. */
export function traceArrived(steps: Steps, request: Request, exportName: string): void {
  const cookie = cookieOf(request.cookieHigh, request.cookieLow);
  steps.step(cookie, '280', 'a request has arrived');
  steps.step(cookie, '281', `it is for the export ${JSON.stringify(exportName)}`);
  steps.step(cookie, '288', requestText(request.command, request.offset, request.length));
}

/** The request is complete and goes to the device. */
export function traceBegun(steps: Steps, request: Request): void {
  const cookie = cookieOf(request.cookieHigh, request.cookieLow);
  const text = requestText(request.command, request.offset, request.length);
  if (request.command === NbdCommand.read) {
    steps.step(cookie, '282', `the device is to ${text}`);
  } else if (request.command === NbdCommand.write) {
    steps.step(cookie, '285', 'the data is received');
    steps.step(cookie, '286', `the device is to ${text}`);
  }
}

/** The device has carried out the request. */
export function traceDone(steps: Steps, request: Request): void {
  const cookie = cookieOf(request.cookieHigh, request.cookieLow);
  if (request.command === NbdCommand.read) {
    steps.step(cookie, '283', 'the device has read');
    steps.step(cookie, '284', 'the data is sent to the client');
  } else if (request.command === NbdCommand.write) {
    steps.step(cookie, '287', 'the device has written');
  }
}

/** The request was refused, or the device failed. */
export function traceFailed(steps: Steps, request: Request, text: string): void {
  steps.step(cookieOf(request.cookieHigh, request.cookieLow), '28x', `failed: ${text}`);
}
