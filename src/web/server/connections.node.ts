/**
 * Connections that the web server makes of an accepted `Upgrade`: a WebSocket with messages, a
 * stream of bytes over a WebSocket, or the bare connection after HTTP.
 */
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { SocketStream } from '../../network/socket.node.js';
import { streamOfSocket } from '../../network/websocket.node.js';
import type { MessageSocket, StreamConnection } from './routes.js';

/** If more bytes wait for a slow reader, it misses messages. */
const maxPending = 1 << 20;

/** A WebSocket with messages. */
export function messageSocket(socket: WebSocket): MessageSocket {
  socket.on('error', () => undefined);
  let closing = false;
  const close = (code: number, reason = ''): void => {
    closing = true;
    closeSocket(socket, code, reason);
  };
  return {
    send: (message) => {
      if (socket.readyState !== 1 || socket.bufferedAmount > maxPending) return false;
      socket.send(message);
      return true;
    },
    attach: ({ message, closed }) => {
      socket.on('close', closed);
      socket.on('message', (data: Buffer, isBinary) => {
        // Until the client has answered the close, its messages still arrive.
        if (closing) return;
        if (isBinary) message(data);
        else close(4003);
      });
    },
    close,
  };
}

/** A WebSocket as a stream of bytes. */
export function socketConnection(socket: WebSocket, peer: string): StreamConnection {
  /** The code with which this side closes it. */
  let closing: number | undefined;
  // The client gets the code and the reason even if the stream is destroyed meanwhile.
  const terminate = (): void => {
    if (closing === undefined) socket.terminate();
  };
  return {
    // The high-water mark is 0, because a server reuses the memory of what it has written.
    stream: streamOfSocket(socket, peer, 0, terminate),
    close: (code, reason) => {
      closing = code;
      closeSocket(socket, code, reason);
    },
    // A client that does not answer the close must not hide the reason for it.
    onClose: (listener) => void socket.once('close', (code) => listener(closing ?? code)),
  };
}

/**
 * The bytes of a connection after HTTP's answer.
 * @param head the bytes that came with the request
 */
export function bareConnection(socket: Socket, peer: string, head: Uint8Array): StreamConnection {
  socket.setTimeout(0);
  if (head.length > 0) socket.unshift(head);
  // A TLS socket cannot send a reset.
  const plain = !('encrypted' in socket);
  const stream = new SocketStream(socket, peer, { highWater: 0, ...(!plain && { reset: () => undefined }) });
  return { stream, close: () => stream.destroy() };
}

/** Time for a client to answer the close of its WebSocket, in ms. */
const closeMs = 2000;

function closeSocket(socket: WebSocket, code: number, reason: string): void {
  // Bytes that still arrive are not served any more.
  socket.onmessage = null;
  socket.resume();
  socket.close(code, reason);
  setTimeout(() => socket.terminate(), closeMs).unref();
}
