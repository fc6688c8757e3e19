/**
 * The table of routes of the web server: each path, the right that it needs, and its handler. A
 * route is one of four kinds: it answers a GET or a POST, opens a WebSocket with messages, or opens
 * a stream of bytes, over a WebSocket or after an HTTP `Upgrade`.
 *
 * Not here: the handlers (app/web), HTTP itself (server.node.ts).
 */
import { FarbusError } from '../../base/errors.js';
import type { ByteStream } from '../../network/stream.js';

/** The rights of a client's token. */
export interface CallerRights {
  /** For logs. */
  readonly id: string;
  readonly control: boolean;
  /** True if it may lend a disk under some name. */
  readonly lend: boolean;
  /** False if it is for lending alone. */
  readonly reads: boolean;
  to(exportName: string): 'read' | 'write' | undefined;
  /** True if it may lend a disk under that name. */
  lends(exportName: string): boolean;
}

/** A request that has passed the checks of host, origin and token. */
export interface Call {
  /** The part of the path at `:name`, decoded; '' if the route has none. */
  readonly name: string;
  readonly rights: CallerRights;
  /** "127.0.0.1:4711". */
  readonly peer: string;
  /** The name that the client gives itself; undefined if it gives none. */
  readonly label: string | undefined;
  /** True if the connection is encrypted. */
  readonly encrypted: boolean;
  /** The names in the client's certificate, if the server demands one. */
  readonly tlsNames: readonly string[];
  /** Aborts if the client is gone. */
  readonly signal: AbortSignal;
}

/** The answer to a GET or POST: JSON, or bytes of a type. */
export type Answer = { readonly json: unknown } | TypedBytes;

/** A method of compression, as HTTP names it. */
export type Encoding = 'br' | 'gzip';

export interface TypedBytes {
  readonly type: string;
  readonly bytes: Uint8Array;
  /** The bytes are compressed by this method. Default: they are not compressed. */
  readonly encoding?: Encoding | undefined;
  /** The address names this content and no other, so a browser may keep it. Default: false. */
  readonly kept?: boolean | undefined;
}

/** A message socket, as a handler uses it: one of `ws`. */
export interface MessageSocket {
  /** Sends a text or binary message, unless too much waits; then returns false. */
  send(message: string | Uint8Array): boolean;
  /** Receives binary messages and the end. */
  attach(events: { message(bytes: Uint8Array): void; closed(): void }): void;
  close(code: number, reason?: string): void;
}

interface Path {
  /** "/api/exports/:name/eject": one part may be `:name`. */
  readonly path: string;
  /**
   * `token`: any valid token; `reads`: one that is not for lending alone; `control`: the console
   * token; `lend`: one that may lend `:name`.
   */
  readonly right: 'token' | 'reads' | 'control' | 'lend';
  /** True if the only subprotocol that a WebSocket offers may be the bare token, as by OpenBMC. */
  readonly bareToken?: true;
  /**
   * True if a WebSocket whose token is wrong, or may not lend `:name`, is opened, and then closed
   * with {@link tokenEnded} or {@link lendingRefused}: a page learns no status of one that is
   * refused before, and would call again and again.
   */
  readonly tellsRefusal?: true;
}

/** Opens a connection. Throws a {@link WebFailure} to refuse it before it is accepted. */
type Opener<T> = (call: Call) => Promise<(connection: T) => void> | ((connection: T) => void);

export type Route = Path &
  (
    | { readonly kind: 'get'; readonly answer: (call: Call) => Promise<Answer> | Answer }
    | {
        readonly kind: 'post';
        readonly answer: (call: Call, body: Readonly<Record<string, unknown>>) => Promise<Answer> | Answer;
      }
    /** A WebSocket with messages, and its subprotocol. */
    | { readonly kind: 'messages'; readonly protocol: string; readonly open: Opener<MessageSocket> }
    /**
     * A stream of bytes: by a WebSocket with this subprotocol, and by HTTP `Upgrade` to it. `close`
     * of the connection ends it with a code and a reason that a WebSocket carries.
     */
    | { readonly kind: 'stream'; readonly protocol: string; readonly open: Opener<StreamConnection> }
  );

/** A stream that a client has opened. */
export interface StreamConnection {
  readonly stream: ByteStream;
  /** Ends it. A WebSocket tells the client the code and the reason (at most 123 bytes). */
  close(code: number, reason: string): void;
  /** Calls the listener with the code when a WebSocket is closed. Absent for other connections. */
  onClose?(listener: (code: number) => void): void;
}

/** An error with a status of HTTP. */
export class WebFailure extends FarbusError {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A route that fits a path, and the part at `:name`. */
export interface Match<R> {
  readonly route: R;
  readonly name: string;
}

/**
 * Finds the routes of a path. The path is compared part by part before decoding, so that an encoded
 * "/" belongs to a name.
 * @throws WebFailure if the name is not decodable
 */
export function matches(routes: readonly Route[], path: string): Match<Route>[] {
  const parts = path.split('/');
  return routes.flatMap((route) => {
    const wanted = route.path.split('/');
    if (wanted.length !== parts.length) return [];
    if (!wanted.every((part, at) => part === ':name' || part === parts[at])) return [];
    const at = wanted.indexOf(':name');
    return [{ route, name: at < 0 ? '' : decoded(parts[at]!) }];
  });
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new WebFailure(400, 'the address has a % that is not followed by two hex digits of UTF-8');
  }
}
