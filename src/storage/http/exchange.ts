/**
 * How requests reach an HTTP server: the seam between the disk and its platform (undici on Node,
 * fetch() in a browser).
 */

export interface HttpRequest {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface HttpResponse {
  /** The URL that answered: another one than was asked if the server redirected. */
  readonly url: string;
  readonly status: number;
  /** The value of a header; the name is in lower case. */
  header(name: string): string | undefined;
  /** The body. Its end before the announced length is an error. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Ends the transfer of a body that is not needed. */
  drop(): void;
}

/**
 * Sends a GET request and follows redirects. Rejects with {@link HttpRefusal} if the same request
 * will fail again, with any other error if it may succeed later.
 */
export type Send = (url: string, request: HttpRequest) => Promise<HttpResponse>;

/** A failure that lasts: the server is not trusted, or redirects in circles. */
export class HttpRefusal extends Error {
  override readonly name = 'HttpRefusal';
}
