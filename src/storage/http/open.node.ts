/**
 * Opens http:// and https:// sources on Node, with logins from the URL, the environment or
 * ~/.netrc.
 *
 * Not here: how requests are sent (send.node.ts).
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { errnoOf, failed, FarbusError, messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { BlockError } from '../../block/errors.js';
import { HttpDisk } from './device.js';
import { basic, parseHttpLocation, type HttpLocation } from './location.js';
import { loginFor } from './netrc.js';
import type { Send } from './exchange.js';
import { nodeSender } from './send.node.js';

export interface OpenHttpOptions {
  readonly reconnectSeconds?: number;
  readonly log?: Logger;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens an object on an HTTP server.
 * @throws FarbusError if it cannot be read by ranges
 */
export async function openHttp(text: string, options: OpenHttpOptions = {}): Promise<BlockDevice> {
  const location = parseHttpLocation(text);
  const authorization = location.authorization ?? (await authorizationFor(location));
  return await openSigned(location, options, (send) => async (url, request) => {
    const headers = authorization === undefined ? request.headers : { ...request.headers, authorization };
    return await send(url, { ...request, headers });
  });
}

/**
 * Opens an object whose requests to the origin of its URL `sign` completes.
 * @throws FarbusError if it cannot be read by ranges
 */
export async function openSigned(
  { url, shown }: HttpLocation,
  { reconnectSeconds = 60, log = silent, signal }: OpenHttpOptions,
  sign: (send: Send) => Send,
): Promise<BlockDevice> {
  const { send: unsigned, close } = await nodeSender(url);
  const signed = sign(unsigned);
  const { origin } = new URL(url);
  // An address that a redirect gave is another server's: it gets neither login nor signature.
  const send: Send = (to, request) => (new URL(to).origin === origin ? signed : unsigned)(to, request);
  try {
    return await HttpDisk.open({ send, url, shown, reconnectSeconds, log, close }, signal);
  } catch (error) {
    await close();
    signal?.throwIfAborted();
    const what = error instanceof BlockError ? messageOf(error) : `${shown}: ${messageOf(error)}`;
    throw new FarbusError(`cannot open ${what}`, { cause: error, kind: 'device' });
  }
}

/** The Authorization header from the environment or ~/.netrc; undefined if there is none. */
async function authorizationFor({ url }: HttpLocation): Promise<string | undefined> {
  const { hostname, protocol } = new URL(url);
  const isLocal = ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
  const own = process.env['FARBUS_HTTP_AUTHORIZATION'];
  // In plain text it would be readable on the way.
  if (own && (protocol === 'https:' || isLocal)) return own;
  const path = process.env['NETRC'] || join(process.env['HOME'] || homedir(), '.netrc');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw failed(`cannot read ${path}`, error);
  }
  const login = loginFor(text, hostname);
  return login && basic(login.user, login.password);
}
