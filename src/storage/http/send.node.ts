/**
 * Sends requests on Node, over connections that stay open: proxies as in curl (http_proxy,
 * https_proxy, all_proxy, no_proxy), and the certificate authorities of trust.node.ts.
 *
 * Where there is no proxy, a small client of our own sends the requests (direct/), at a fraction of
 * undici's processor time (bench/http.mjs). undici sends all others: through proxies, and to
 * servers whose answers that client does not know. FARBUS_NO_EAGER leaves all to undici.
 *
 * Each address has its own way, also one that a redirect leads to: its proxy, and, if it is https,
 * the authorities. As in curl, a proxy gets requests for http addresses with the whole URL
 * (RFC 9112 §3.2.2), and makes a tunnel to https addresses (RFC 9110 §9.3.6).
 */
import { createSecureContext, type SecureContext } from 'node:tls';
import { getProxyForUrl } from 'proxy-from-env';
import type { Dispatcher } from 'undici';
import { connectionFailure } from '../../base/connection-failure.js';
import { errnoOf, FarbusError, messageOf } from '../../base/errors.js';
import { isEager } from '../../base/spin-wait.node.js';
import type { AnswerHead } from './direct/head.node.js';
import { Pool, socketsTo } from './direct/pool.node.js';
import { HttpRefusal, type BodySink, type HttpHead, type HttpRequest, type Send } from './exchange.js';
import { parseHttpLocation, shownUrl, type HttpLocation } from './location.js';
import { trustedAuthorities } from './trust.node.js';

/** Time to connect, in ms. */
const connectMs = 10_000;

const mostRedirects = 10;
/** Origins whose way is remembered. */
const mostWays = 64;

/** How requests to an address are sent. */
interface Way {
  readonly dispatcher: Dispatcher;
  /** The proxy on the way. */
  readonly proxy: HttpLocation | undefined;
  /** The proxy gets the request itself instead of a tunnel. */
  readonly isForwarded: boolean;
  /** Sends plain requests faster than undici, until the server answers in an unusual way. */
  direct: Pool | undefined;
}

/** How requests are sent from this process, and how their connections are closed. */
export async function nodeSender(first: string): Promise<{ send: Send; close: () => Promise<void> }> {
  // A wrong variable ends the opening at once.
  proxyFor(new URL(first));
  const { Agent, Pool: UndiciPool, ProxyAgent } = await import('undici');
  const dispatchers = new Map<string, Dispatcher>();
  const pools = new Set<Pool>();
  let context: SecureContext | undefined;

  const ways = new Map<string, Promise<Way>>();

  const wayTo = (url: URL): Promise<Way> => {
    let way = ways.get(url.origin);
    if (!way) {
      // A server can redirect each request to another host.
      if (ways.size >= mostWays) forgetWays();
      way = findWay(url);
      ways.set(url.origin, way);
      // Certificate authorities that cannot be read now may be readable later.
      way.catch(() => ways.delete(url.origin));
    }
    return way;
  };

  const forgetWays = (): void => {
    ways.clear();
    for (const pool of pools) if (pool.isEmpty) pools.delete(pool);
  };

  const findWay = async (url: URL): Promise<Way> => {
    const proxy = proxyFor(url);
    const isForwarded = proxy !== undefined && url.protocol === 'http:';
    const isSecure = url.protocol === 'https:' || proxy?.url.startsWith('https:') === true;
    // One context for all connections: each would parse some hundred certificates.
    if (isSecure) context ??= createSecureContext({ ca: await authorities() });
    const tunnel = isForwarded ? undefined : proxy;
    const key = `${isSecure} ${tunnel?.url}`;
    let dispatcher = dispatchers.get(key);
    if (!dispatcher) {
      const connect = { timeout: connectMs, ...(isSecure && { secureContext: context }) };
      dispatcher =
        tunnel === undefined
          ? new Agent({ connect })
          : new ProxyAgent({
              uri: tunnel.url,
              ...(tunnel.authorization !== undefined && { token: tunnel.authorization }),
              requestTls: connect,
              proxyTls: connect,
              clientFactory: (origin, options) => checkingTunnels(new UndiciPool(origin, options), tunnel),
            });
      dispatchers.set(key, dispatcher);
    }
    const direct = proxy || !isEager() ? undefined : new Pool(url, socketsTo(url, context));
    if (direct) pools.add(direct);
    return { dispatcher, proxy, isForwarded, direct };
  };

  /** Sends one request. Resolves with the address that the answer redirects to. */
  const exchange = async (
    url: URL,
    { headers, mayQueue = false, receive, endBy }: HttpRequest,
  ): Promise<URL | undefined> => {
    const way = await wayTo(url);
    const { dispatcher, proxy, isForwarded } = way;
    if (way.direct) {
      let redirect: URL | undefined;
      const begin = (head: AnswerHead): BodySink | undefined => {
        const found = { url: url.href, status: head.status, header: head.header };
        redirect = redirectOf(found, url);
        return redirect ? undefined : receive(found);
      };
      const request = { path: url.pathname + url.search, headers, mayQueue, begin, endBy };
      const isDone = await way.direct.exchange(request).catch((error) => {
        throw lasting(error, proxy);
      });
      if (isDone) return redirect;
      way.direct = undefined;
    }
    const { origin } = isForwarded ? new URL(proxy!.url) : url;
    const path = (isForwarded ? url.origin : '') + url.pathname + url.search;
    const sent = isForwarded ? { ...headers, host: url.host, ...proxyLogin(proxy!) } : { ...headers };
    return await new Promise((resolve, reject) => {
      const begin = (head: HttpHead): URL | BodySink => {
        if (head.status === 407 && isForwarded) throw refusalOf(proxy!, 407);
        return redirectOf(head, url) ?? receive(head);
      };
      const explain = (error: Error): unknown => lasting(error, proxy);
      const handler = new Handler({ url: url.href, begin, explain, resolve, reject });
      endBy((reason) => handler.end(reason));
      dispatcher.dispatch({ origin, path, method: 'GET', headers: sent }, handler);
    });
  };

  /** The latest address, which most requests are for. */
  let parsed: { readonly address: string; readonly url: URL } | undefined;

  const send: Send = async (address, request) => {
    if (parsed?.address !== address) parsed = { address, url: new URL(address) };
    let [to, headers] = [parsed.url, request.headers];
    for (let redirects = 0; redirects <= mostRedirects; redirects++) {
      const next = await exchange(to, { ...request, headers });
      if (next === undefined) return;
      if (next.origin !== to.origin) headers = withoutSecrets(headers);
      to = next;
    }
    throw new HttpRefusal(`it redirects more than ${mostRedirects} times: check the address`);
  };
  const close = async (): Promise<void> => {
    for (const pool of pools) pool.close();
    await Promise.all([...dispatchers.values()].map((one) => one.destroy()));
  };
  return { send, close };
}

/** The proxy of the environment for an address; undefined if there is none. */
function proxyFor(url: URL): HttpLocation | undefined {
  const text = getProxyForUrl(url.href);
  if (text === '') return undefined;
  if (URL.canParse(text) && /^https?:/i.test(text)) return parseHttpLocation(text);
  throw new FarbusError(
    'the proxy of the environment is not of the form http://HOST:PORT: check http_proxy, https_proxy and all_proxy',
  );
}

function proxyLogin({ authorization }: HttpLocation): Record<string, string> {
  return authorization === undefined ? {} : { 'proxy-authorization': authorization };
}

/**
 * undici reports a tunnel that the proxy refuses as an abort, without the status, and goes on with
 * the connection. So the status is checked before undici sees the answer.
 */
function checkingTunnels(pool: Dispatcher, proxy: HttpLocation): Dispatcher {
  const connect = pool.connect.bind(pool) as (options: Dispatcher.ConnectOptions) => Promise<Dispatcher.ConnectData>;
  const checked = async (options: Dispatcher.ConnectOptions): Promise<Dispatcher.ConnectData> => {
    const answer = await connect(options);
    if (answer.statusCode === 200) return answer;
    answer.socket.on('error', () => undefined).destroy();
    throw refusalOf(proxy, answer.statusCode);
  };
  return Object.assign(pool, { connect: checked });
}

/** The error for a proxy's answer. A proxy that could not reach the server may reach it later. */
function refusalOf(proxy: HttpLocation, status: number): Error {
  if (status >= 500) return new Error(`the proxy ${proxy.shown} does not reach it (status ${status})`);
  if (status !== 407) return new HttpRefusal(`the proxy ${proxy.shown} refuses it (status ${status})`);
  const what = proxy.authorization === undefined ? 'wants a login' : 'refuses the login';
  const advice = 'write it into http_proxy, https_proxy or all_proxy as http://USER:PASSWORD@HOST:PORT';
  return new HttpRefusal(`the proxy ${proxy.shown} ${what}: ${advice}`);
}

async function authorities(): Promise<string[]> {
  try {
    return await trustedAuthorities(process.env);
  } catch (error) {
    throw new HttpRefusal(messageOf(error), { cause: error });
  }
}

interface HandlerOptions {
  readonly url: string;
  /** Takes the head of the answer: a redirect's address, or where the body goes. */
  readonly begin: (head: HttpHead) => URL | BodySink;
  /** The error that is reported for an error of undici. */
  readonly explain: (error: Error) => unknown;
  readonly resolve: (redirect: URL | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Passes one answer of undici on. */
class Handler implements Dispatcher.DispatchHandlers {
  readonly #options: HandlerOptions;
  #sink: BodySink | undefined;
  #abort: ((reason?: Error) => void) | undefined;
  #isOver = false;

  constructor(options: HandlerOptions) {
    this.#options = options;
  }

  /** Ends the transfer. */
  end(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.reject(reason);
    this.#abort?.();
  }

  /** The connection is there, and the request is about to be sent. */
  onConnect(abort: (reason?: Error) => void): void {
    this.#abort = abort;
    if (this.#isOver) abort();
  }

  onHeaders(status: number, raw: readonly Buffer[]): boolean {
    // Answers of the class 1xx come before the one that counts.
    if (status < 200 || this.#isOver) return true;
    const header = (name: string): string | undefined => {
      for (let at = 0; at + 1 < raw.length; at += 2) {
        if (raw[at]!.length === name.length && raw[at]!.toString('latin1').toLowerCase() === name) {
          return raw[at + 1]!.toString('latin1');
        }
      }
      return undefined;
    };
    try {
      const found = this.#options.begin({ url: this.#options.url, status, header });
      if (!(found instanceof URL)) this.#sink = found;
      else {
        // The body of a redirect is not needed.
        this.#isOver = true;
        this.#options.resolve(found);
        this.#abort?.();
      }
    } catch (error) {
      this.end(error);
    }
    return true;
  }

  onData(part: Buffer): boolean {
    if (this.#isOver) return true;
    try {
      this.#sink?.take(part);
    } catch (error) {
      this.end(error);
    }
    return true;
  }

  onComplete(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.resolve(undefined);
  }

  onError(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.reject(this.#options.explain(error));
  }
}

/** The address that an answer redirects to (RFC 9110 §15.4); undefined if it does not redirect. */
function redirectOf({ status, header }: HttpHead, from: URL): URL | undefined {
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
function lasting(error: unknown, proxy: HttpLocation | undefined): unknown {
  // undici wraps what a proxy's certificate lacks.
  const isWrapped = errnoOf(error) === 'UND_ERR_PRX_TLS';
  const inner: unknown = isWrapped && error instanceof Error ? error.cause : error;
  const code = errnoOf(inner) ?? '';
  const whose = isWrapped ? `of the proxy ${proxy?.shown ?? ''}: ` : '';
  if (untrusted.test(code)) {
    const advice = 'add its certificate authority with NODE_EXTRA_CA_CERTS=FILE';
    return new HttpRefusal(`${whose}its certificate is not trusted (${messageOf(inner)}): ${advice}`, { cause: error });
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
    return new HttpRefusal('it does not speak TLS there: check the address', { cause: error });
  }
  if (proxy === undefined || code === '') return error;
  return new Error(`through the proxy ${proxy.shown}: ${connectionFailure(error)}`, { cause: error });
}
