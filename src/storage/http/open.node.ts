/**
 * Opens http:// and https:// sources on Node, with logins from the URL, the environment or
 * ~/.netrc.
 *
 * Not here: how requests are sent (send.node.ts).
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { errnoOf, failed } from '../../base/errors.js';
import type { HttpDisk } from './device.js';
import { basic, parseHttpLocation, type HttpLocation } from './location.js';
import { loginFor } from './netrc.js';
import { openObject, type Authorize, type OpenHttpOptions } from './open.js';
import { nodeSender } from './send.node.js';

/**
 * Opens an object on an HTTP server.
 * @throws FarbusError if it cannot be read by ranges
 */
export async function openHttp(text: string, options: OpenHttpOptions = {}): Promise<HttpDisk> {
  const location = parseHttpLocation(text);
  const authorization = location.authorization ?? (await authorizationFor(location));
  const authorize: Authorize | undefined = authorization
    ? (_url, headers) => ({ ...headers, authorization })
    : undefined;
  return await openObject(location, await nodeSender(location.url), options, authorize);
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
