/**
 * Opens an object on an HTTP server, on any platform.
 *
 * Not here: the ways to send requests, and where logins come from (open.node.ts, open-fetch.ts).
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import { BlockError } from '../../block/errors.js';
import { HttpDisk } from './device.js';
import type { Send } from './exchange.js';
import type { HttpLocation } from './location.js';

/** Options for opening an object. */
export interface OpenHttpOptions {
  /** How long a read waits for a server that is away or busy, in seconds. Default 60. */
  readonly reconnectSeconds?: number;
  /** Hears of failures in passing. Default: none of it is logged. */
  readonly log?: Logger;
  /** Ends the opening. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
}

/** Completes the headers of a request: with a login, or a signature. */
export type Authorize = (
  url: string,
  headers: Readonly<Record<string, string>>,
) => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>;

/** How requests are sent, and how the connections are closed. */
export interface Sender {
  readonly send: Send;
  readonly close: () => Promise<void>;
}

/**
 * Opens an object whose requests to the origin of its URL `authorize` completes.
 * @throws FarbusError if it cannot be read by ranges
 */
export async function openObject(
  { url, shown }: HttpLocation,
  { send: plain, close }: Sender,
  { reconnectSeconds = 60, log = silent, signal }: OpenHttpOptions,
  authorize: Authorize | undefined,
): Promise<HttpDisk> {
  const send = authorize ? authorized(plain, new URL(url).origin, authorize) : plain;
  try {
    return await HttpDisk.open({ send, url, shown, reconnectSeconds, log, close }, signal);
  } catch (error) {
    await close();
    signal?.throwIfAborted();
    const what = error instanceof BlockError ? messageOf(error) : `${shown}: ${messageOf(error)}`;
    throw new FarbusError(`cannot open ${what}`, { cause: error, kind: 'device' });
  }
}

/** An address that a redirect gave is another server's: it gets neither login nor signature. */
function authorized(send: Send, origin: string, authorize: Authorize): Send {
  return async (url, request) => {
    if (new URL(url).origin !== origin) return await send(url, request);
    return await send(url, { ...request, headers: await authorize(url, request.headers) });
  };
}
