/** Opens an object on a web server by fetch(), in browsers, workers and Node. */
import type { BlockDevice } from '../../block/device.js';
import { parseHttpLocation } from './location.js';
import { openObject, type Authorize, type OpenHttpOptions } from './open.js';
import { fetchSender } from './send-fetch.js';

/** Options of {@link openHttp}. */
export interface FetchHttpOptions extends OpenHttpOptions {
  /**
   * Completes the headers of each request to the origin of the URL, with a login or a signature. A
   * user and a password in the URL are used if this is absent.
   */
  readonly authorize?: Authorize;
  /** Cookies and logins of the browser, as in fetch(). Default: `same-origin`. */
  readonly credentials?: RequestCredentials;
}

/**
 * Opens an object on a web server as a read-only disk, by fetch().
 *
 * A server of another origin than the page's must allow its origin and the headers Range and
 * If-Match, and show ETag and Content-Range (CORS).
 *
 * @param url An http:// or https:// URL
 * @throws FarbusError if it cannot be read by ranges
 */
export async function openHttp(url: string, options: FetchHttpOptions = {}): Promise<BlockDevice> {
  const { credentials = 'same-origin', authorize, ...rest } = options;
  const location = parseHttpLocation(url);
  const { authorization } = location;
  const login: Authorize | undefined = authorization ? (_url, headers) => ({ ...headers, authorization }) : undefined;
  const sender = { send: fetchSender(credentials), close: async () => undefined };
  return await openObject(location, sender, rest, authorize ?? login);
}
