/**
 * Carries Ethernet frames over a private socket between the process that owns a segment and a
 * computer's process. Each frame is preceded by its length, 4 bytes, big-endian. Frames are
 * dropped if too many bytes wait, as on any Ethernet.
 */
import type { Duplex } from 'node:stream';
import { BaseSegment } from '../network/ethernet/base-segment.js';
import type { Mac } from '../network/ethernet/mac.js';
import { frameHeaderSize, maxMtu, vlanTagSize, type Segment } from '../network/ethernet/segment.js';

const maxFrame = frameHeaderSize + vlanTagSize + maxMtu;
/** Maximum bytes that wait in the socket before frames are dropped. */
const maxPending = 8 << 20;

/** One end of the pipe. */
export class FramePipe {
  readonly #socket: Duplex;
  readonly #onFrame: (frame: Uint8Array) => void;
  #rest: Buffer = Buffer.alloc(0);
  #flushing = false;

  /** Called with each received frame, which is valid during the call only. */
  constructor(socket: Duplex, onFrame: (frame: Uint8Array) => void) {
    this.#socket = socket;
    this.#onFrame = onFrame;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    // The other process has ended; its end is reported by other means.
    socket.on('error', () => undefined);
  }

  /** Sends a copy of a frame. Returns false if it was dropped. */
  send(frame: Uint8Array): boolean {
    if (this.#socket.destroyed || this.#socket.writableLength > maxPending) return false;
    // Collect the frames that one callback sends into one write.
    if (!this.#flushing) {
      this.#flushing = true;
      this.#socket.cork();
      // Use nextTick: the next iteration of the event loop may be a time slice of a busy guest
      // away.
      process.nextTick(() => {
        this.#flushing = false;
        this.#socket.uncork();
      });
    }
    const message = Buffer.allocUnsafe(4 + frame.length);
    message.writeUInt32BE(frame.length, 0);
    message.set(frame, 4);
    this.#socket.write(message);
    return true;
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 4) {
      const length = bytes.readUInt32BE(0);
      if (length > maxFrame) return void this.#socket.destroy();
      if (bytes.length < 4 + length) break;
      this.#onFrame(new Uint8Array(bytes.buffer, bytes.byteOffset + 4, length));
      bytes = bytes.subarray(4 + length);
    }
    this.#rest = bytes;
  }
}

/** A segment in a computer's process: sends and receives its frames through the pipe. */
export class PipeSegment extends BaseSegment {
  readonly #pipe: FramePipe;

  constructor(name: string, mtu: number, socket: Duplex) {
    super(name, mtu);
    this.#pipe = new FramePipe(socket, (frame) => this.receive(frame));
  }

  protected transmit(frame: Uint8Array): boolean {
    if (this.#pipe.send(frame)) return true;
    this.counters.overflow++;
    return false;
  }

  protected release(): Promise<void> {
    this.#pipe.close();
    return Promise.resolve();
  }
}

/**
 * Connects another process to `segment` with the address `mac`. Returns a function that disconnects
 * it.
 */
export function lendPort(segment: Segment, mac: Mac, socket: Duplex): () => void {
  const port = segment.attach({ mac, onFrame: (frame) => void pipe.send(frame) });
  const pipe = new FramePipe(socket, (frame) => void port.send(frame));
  return () => {
    port.close();
    pipe.close();
  };
}
