/**
 * Opens http:// and https:// sources on Node, by undici: connections that stay open, proxies as in
 * curl (http_proxy, https_proxy, all_proxy, no_proxy), the system's certificate authorities, and
 * logins from ~/.netrc or the environment.
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { getProxyForUrl } from 'proxy-from-env';
import type { Dispatcher } from 'undici';
import { errnoOf, failed, FarbusError, messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { BlockError } from '../../block/errors.js';
import { HttpDisk } from './device.js';
import { basic, parseHttpLocation, shownUrl, type HttpLocation } from './location.js';
import { loginFor } from './netrc.js';
import { HttpRefusal, type HttpResponse, type Send } from './exchange.js';
import { trustedAuthorities } from './trust.node.js';

export interface OpenHttpOptions {
  readonly reconnectSeconds?: number;
  readonly log?: Logger;
  readonly signal?: AbortSignal | undefined;
}

/** Time to connect, in ms. */
const connectMs = 10_000;

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
  const { send: unsigned, close } = await sender(url);
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

/** How requests are sent from this process, and how their connections are closed. */
async function sender(url: string): Promise<{ send: Send; close: () => Promise<void> }> {
  const { Agent, ProxyAgent, request } = await import('undici');
  const isSecure = url.startsWith('https:');
  const connect = { timeout: connectMs, ...(isSecure && { ca: await trustedAuthorities(process.env) }) };
  const proxy = getProxyForUrl(url);
  if (proxy !== '' && !(URL.canParse(proxy) && /^https?:/i.test(proxy))) {
    throw new FarbusError(
      'the proxy of the environment is not of the form http://HOST:PORT: check http_proxy, https_proxy and all_proxy',
    );
  }
  const dispatcher: Dispatcher =
    proxy === '' ? new Agent({ connect }) : new ProxyAgent({ uri: proxy, requestTls: connect, proxyTls: connect });
  const send: Send = async (first, { headers, signal }) => {
    let [to, sent] = [new URL(first), headers];
    for (let redirects = 0; redirects <= mostRedirects; redirects++) {
      const response = responseOf(to, await request(to, { headers: sent, signal, dispatcher }).catch(lasting));
      const next = redirectOf(response, to);
      if (next === undefined) return response;
      response.drop();
      if (next.origin !== to.origin) sent = withoutSecrets(sent);
      to = next;
    }
    throw new HttpRefusal(`it redirects more than ${mostRedirects} times: check the address`);
  };
  return { send, close: () => dispatcher.destroy() };
}

const mostRedirects = 10;

function responseOf(url: URL, { statusCode, headers, body }: Dispatcher.ResponseData): HttpResponse {
  // Without a listener, an error after the body was dropped would end the process.
  body.on('error', () => undefined);
  return {
    url: url.href,
    status: statusCode,
    header: (name) => {
      const value = headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
    body,
    drop: () => void body.destroy(),
  };
}

/** The address that an answer redirects to (RFC 9110 §15.4); undefined if it does not redirect. */
function redirectOf({ status, header }: HttpResponse, from: URL): URL | undefined {
  const location = [301, 302, 303, 307, 308].includes(status) ? header('location') : undefined;
  if (location === undefined) return undefined;
  if (!URL.canParse(location, from)) throw new HttpRefusal('it redirects to an address that is no URL');
  const to = new URL(location, from);
  if (to.protocol !== 'https:' && (to.protocol !== 'http:' || from.protocol === 'https:')) {
    throw new HttpRefusal(`it redirects to ${shownUrl(to)}, which is not encrypted`);
  }
  return to;
}

/** Headers for another server: without logins and signatures. */
function withoutSecrets(headers: Readonly<Record<string, string>>): Record<string, string> {
  const harmless = ['range', 'accept-encoding', 'if-match'];
  return Object.fromEntries(Object.entries(headers).filter(([name]) => harmless.includes(name)));
}

/** Codes of Node's and OpenSSL's verification of certificates begin like this. */
const untrusted = /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA)/;

/** Turns an error that another attempt will not change into an {@link HttpRefusal}. */
function lasting(error: unknown): never {
  const code = errnoOf(error) ?? '';
  if (untrusted.test(code)) {
    const advice = 'add its certificate authority with NODE_EXTRA_CA_CERTS=FILE';
    throw new HttpRefusal(`its certificate is not trusted (${messageOf(error)}): ${advice}`, { cause: error });
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
    throw new HttpRefusal('it does not speak TLS there: check the address', { cause: error });
  }
  throw error;
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
