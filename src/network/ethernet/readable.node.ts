/**
 * Waiting for a descriptor that Node has no class for: a packet socket, a TAP device. Node's event loop can wait for any
 * descriptor, but net.Socket takes those only that it knows ([FIND] 3.1). So one that it knows is opened, an end of a
 * socket pair, and then replaced by the other with dup2(2) before the loop begins to wait for it. No thread is needed,
 * and a frame that arrives costs no more than it does on any socket.
 */
import { Socket, type OnReadOpts, type SocketConstructorOpts } from 'node:net';
import type { Native } from './native.node.js';

export interface ReadableEvents {
  /** A frame was read; more may be there. It is valid during the call only. */
  frame(bytes: Uint8Array): void;
  /** It cannot be read any more: the interface went down or is gone. Once. */
  failed(error: Error | undefined): void;
}

export class Readable {
  /** The descriptor, as long as it is open. */
  readonly fd: number;
  readonly #socket: Socket;
  #open = true;

  /**
   * @param fd What is waited for; it is closed, and {@link fd} takes its place.
   * @param size Longest frame in bytes.
   */
  constructor(calls: Native, fd: number, size: number, events: ReadableEvents) {
    const [known, other] = calls.socketPair();
    const buffer = new Uint8Array(size);
    const onread: OnReadOpts = {
      buffer,
      callback: (length) => {
        if (this.#open) events.frame(buffer.subarray(0, length));
        return true;
      },
    };
    // Node's types know `onread` of connections only.
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

  /** Closes the descriptor; nothing is told any more. */
  close(): void {
    this.#open = false;
    this.#socket.destroy();
  }
}
