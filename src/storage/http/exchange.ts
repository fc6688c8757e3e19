/**
 * How requests reach an HTTP server: the seam between the disk and its platform, which is undici on
 * Node (send.node.ts) and fetch() in a browser (send-fetch.ts).
 *
 * The parts of a body are passed on as they arrive, in the same turn of the event loop: a stream
 * between would cost as much processor time as the rest of a request.
 */

/** The head of an answer. */
export interface HttpHead {
  /** The URL that answered: another one than was asked if the server redirected. */
  readonly url: string;
  readonly status: number;
  /** The value of a header; the name is in lower case. */
  header(name: string): string | undefined;
}

/** Takes the parts of a body in their order. Its methods throw to end the transfer. */
export interface BodySink {
  take(part: Uint8Array): void;
  /**
   * The memory for the next bytes of the body, at most `most`, if it is one range that does not
   * move: a sender that receives there calls `arrived` instead of `take`. It must not write there
   * after the transfer has ended.
   */
  memory?(most: number): Uint8Array | undefined;
  /** The next `length` bytes are in the memory. */
  arrived?(length: number): void;
}

export interface HttpRequest {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** The request may be sent before the answers of earlier ones, and be answered after them. */
  readonly mayQueue?: boolean;
  /**
   * Called with the head of the answer, after redirects. Returns where the body goes. Throws to end
   * the transfer; {@link Send} then rejects with this error.
   */
  receive(head: HttpHead): BodySink;
  /** Takes the function that ends the transfer, from the sender. The latest one counts. */
  endBy(end: (reason: Error) => void): void;
}

/**
 * Sends a GET request and follows redirects. Resolves when the whole body has arrived. Rejects with
 * {@link HttpRefusal} if the same request will fail again, with any other error if it may succeed
 * later. An end before the announced length is an error.
 */
export type Send = (url: string, request: HttpRequest) => Promise<void>;

/** A failure that lasts: the server is not trusted, or redirects in circles. */
export class HttpRefusal extends Error {
  override readonly name = 'HttpRefusal';
}
