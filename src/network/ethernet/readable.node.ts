/**
 * Waits for a descriptor that Node has no class for: a packet socket or a TAP device.
 *
 * Node's event loop can wait for any descriptor, but net.Socket refuses these kinds. So net.Socket
 * is given an end of a socket pair, and dup2(2) replaces that end by the real descriptor before the
 * event loop starts to wait for it (docs/notes/sockets.md, "Foreign descriptors"). This needs no
 * thread, and an arriving frame costs no more than on any socket.
 */
import { Socket, type OnReadOpts, type SocketConstructorOpts } from 'node:net';
import type { SocketCalls } from '../../linux/sockets.node.js';

export interface ReadableEvents {
  /** A frame was read; more may be waiting. The array is valid only during the call. */
  frame(bytes: Uint8Array): void;
  /**
   * The descriptor cannot be read any more: the interface went down or was removed. Called once.
   */
  failed(error: Error | undefined): void;
}

export class Readable {
  /** The descriptor, as long as it is open. */
  readonly fd: number;
  readonly #socket: Socket;
  #open = true;

  /**
   * @param fd The descriptor to wait for. It is closed; {@link fd} is its duplicate.
   * @param size Longest frame in bytes.
   */
  constructor(calls: SocketCalls, fd: number, size: number, events: ReadableEvents) {
    const [known, other] = calls.socketPair();
    const buffer = new Uint8Array(size);
    const onread: OnReadOpts = {
      buffer,
      callback: (length) => {
        if (this.#open) events.frame(buffer.subarray(0, length));
        return true;
      },
    };
    // Node's types allow `onread` only for connections.
    const options: SocketConstructorOpts & { onread: OnReadOpts } = {
      fd: known,
      readable: true,
      writable: false,
      onread,
    };
    this.#socket = new Socket(options);
    let error: Error | undefined;
    this.#socket.on('error', (cause) => (error = cause));
    this.#socket.on('close', () => {
      if (!this.#open) return;
      this.#open = false;
      events.failed(error);
    });
    calls.dup2(fd, known);
    calls.close(other);
    calls.close(fd);
    this.fd = known;
  }

  get open(): boolean {
    return this.#open;
  }

  /** Closes the descriptor. No event is reported afterwards. */
  close(): void {
    this.#open = false;
    this.#socket.destroy();
  }
}
