/**
 * WebSockets in Node, with the `ws` package: a dialer, and the stream of an open socket. They stop
 * receiving while a stream is paused, and send without a copy what need not be masked.
 *
 * Compression is never offered: the data of disks is large and often compressed, and a compressed
 * message can grow to a thousand times its length.
 */
import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { FarbusError, messageOf } from '../base/errors.js';
import { tcpDialer } from './dial.node.js';
import { hostPort } from './socket.node.js';
import { StreamDuplex } from './stream-duplex.node.js';
import type { ByteStream, Dialer, Secure } from './stream.js';
import { maxMessage, nbdSubprotocol, webSocketStream, type WebSocketLike } from './websocket.js';

/** Options of both roles. */
export const socketOptions = { perMessageDeflate: false, maxPayload: maxMessage } as const;

/**
 * An open socket of `ws` as a stream.
 * @param highWater if more bytes wait, `write` returns false; 0 if the caller reuses the memory of
 * what it wrote
 * @param terminate closes the socket when the stream is destroyed
 */
export function streamOfSocket(
  socket: WebSocket,
  peer: string,
  highWater?: number,
  terminate = (): void => socket.terminate(),
): ByteStream {
  socket.binaryType = 'fragments';
  return webSocketStream(socket as unknown as WebSocketLike, {
    peer,
    ...(highWater !== undefined && { highWater }),
    send: (chunks, sent) => {
      const last = chunks.length - 1;
      // Fragments of one message, so that the chunks need not be joined.
      for (let at = 0; at < last; at++) socket.send(chunks[at]!, { binary: true, fin: false });
      socket.send(chunks[last]!, { binary: true, fin: true }, sent);
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    terminate,
  });
}

export interface SocketDialerOptions {
  readonly host: string;
  readonly port: number;
  /** The path of the request, encoded: "/nbd/disk". */
  readonly path: string;
  /** The address for messages, without secrets. */
  readonly address: string;
  /** Encrypts the connection before the request is sent. */
  readonly secure?: Secure | undefined;
  /** A token of access. */
  readonly token?: string | undefined;
  /** The subprotocol. Default: `nbd`. */
  readonly protocol?: string;
}

/** A dialer for a WebSocket server. Its errors say why the server refused a connection. */
export function socketDialer(options: SocketDialerOptions): Dialer {
  const { host, port, path, address, secure, token, protocol = nbdSubprotocol } = options;
  const transport = tcpDialer(host, port);
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return {
    address,
    connect: async (signal) => {
      const plain = await transport.connect(signal);
      const { stream } = secure ? await secure(plain, signal) : { stream: plain };
      const duplex = new StreamDuplex(stream);
      const socket = new WebSocket(`ws://${hostPort(host, port)}${path}`, protocol, {
        ...socketOptions,
        headers,
        createConnection: () => duplex as never,
      });
      return opened(socket, address, signal);
    },
  };
}

/** The stream of a socket, at the end of the WebSocket handshake. */
function opened(socket: WebSocket, address: string, signal: AbortSignal): Promise<ByteStream> {
  return new Promise((resolve, reject) => {
    const stop = (error: Error): void => {
      signal.removeEventListener('abort', abort);
      // The socket reports that it was closed before it was open.
      socket.on('error', () => undefined);
      socket.terminate();
      reject(error);
    };
    const abort = (): void => stop(signal.reason as Error);
    const refused = (why: string): void => stop(new FarbusError(`cannot connect to ${address}: ${why}`));
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    socket.once('open', () => {
      signal.removeEventListener('abort', abort);
      // Now: the first message may follow before a promise continues.
      resolve(streamOfSocket(socket, address));
    });
    socket.once('unexpected-response', (_request: unknown, { statusCode = 0 }: IncomingMessage) => {
      refused(refusals[statusCode] ?? `the server answers with status ${statusCode}: is it a farbus serve --web?`);
    });
    socket.once('error', (error: Error) => refused(`it is no WebSocket server: ${messageOf(error)}`));
  });
}

const refusals: Readonly<Record<number, string>> = {
  200: 'the server answers with a page: is there an export at this address?',
  401: 'the token is missing, wrong or has expired: farbus token makes one on the server',
  403: 'the token is not for this export',
  404: 'there is no such export',
  421: "the server does not answer to this name of it: use another of the server's names or its address",
  426: 'the server wants another protocol there',
  429: 'the server has too many connections: try again later',
  503: 'the server is ending, or has too many connections: try again later',
};
