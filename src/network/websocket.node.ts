/**
 * WebSockets in Node, with the `ws` package: a dialer, and the stream of an open socket. They stop
 * receiving while a stream is paused, and send without a copy what need not be masked.
 *
 * Compression is never offered: the data of disks is large and often compressed, and a compressed
 * message can grow to a thousand times its length.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { tcpDialer } from './dial.node.js';
import { hostPort } from './socket.node.js';
import { StreamDuplex } from './stream-duplex.node.js';
import type { ByteStream, Dialer, Secure } from './stream.js';
import { Unmasker } from './websocket-unmask.js';
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

/** Unmasks the frames of a client before `ws` reads them. Call it before the first 'data' event. */
export function unmaskEarly(connection: Duplex): void {
  const unmasker = new Unmasker();
  connection.prependListener('data', (chunk: Buffer) => unmasker.receive(chunk));
  // `ws` would read what a destroyed connection still holds, without a 'data' event.
  connection.prependListener('close', () => {
    while (connection.read() !== null);
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
      const failed = (error: unknown): never => {
        throw signal.aborted ? error : tlsFailure(address, error);
      };
      const { stream } = secure ? await secure(plain, signal).catch(failed) : { stream: plain };
      const duplex = new StreamDuplex(stream);
      const socket = new WebSocket(`ws://${hostPort(host, port)}${path}`, protocol, {
        ...socketOptions,
        headers,
        createConnection: () => duplex as never,
      });
      return opened(socket, address, signal, secure ? '' : ': if the server has TLS, use nbd+wss://');
    },
  };
}

/** Codes of a certificate whose signer is unknown. */
const unknownSigner: ReadonlySet<string | undefined> = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
]);

/** The error of a TLS handshake, with the address, and the parts of it that may be wrong. */
function tlsFailure(address: string, error: unknown): FarbusError {
  const code = errnoOf(error instanceof Error ? error.cause : undefined);
  let advice = '';
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER') advice = ': if the server has no TLS, use nbd+ws://';
  if (unknownSigner.has(code)) advice = ', or its fingerprint as tls-fingerprint=SHA256';
  return new FarbusError(`cannot connect to ${address}: ${messageOf(error)}${advice}`, { cause: error });
}

/**
 * The stream of a socket, at the end of the WebSocket handshake.
 * @param advice ends the message if the server does not speak HTTP
 */
function opened(socket: WebSocket, address: string, signal: AbortSignal, advice: string): Promise<ByteStream> {
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
    socket.once('error', (error: Error) => refused(`it is no WebSocket server: ${messageOf(error)}${advice}`));
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
