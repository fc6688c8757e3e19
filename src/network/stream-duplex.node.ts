/** A byte stream as a Node Duplex, for Node modules that need one, such as tls. */
import { Duplex } from 'node:stream';
import type { ByteStream } from './stream.js';

export class StreamDuplex extends Duplex {
  readonly #stream: ByteStream;
  #drained: (() => void) | undefined;
  #closed = false;

  /** Takes over the stream. */
  constructor(stream: ByteStream) {
    super({ allowHalfOpen: false });
    this.#stream = stream;
    stream.attach({
      data: (chunk) => {
        // Copied, because the chunk is valid during the call only.
        if (!this.push(Buffer.from(chunk))) stream.pause();
      },
      drain: () => this.#next(),
      closed: (error) => this.#onClosed(error),
    });
    stream.resume();
  }

  override _read(): void {
    if (!this.#closed) this.#stream.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#closed) return done(new Error('the connection was closed'));
    // Copied, because the writer may reuse the chunk as soon as `done` has been called.
    if (this.#stream.write([new Uint8Array(chunk)])) return done();
    this.#drained = done;
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.#closed) this.#stream.destroy();
    this.#closed = true;
    done(error);
  }

  #next(): void {
    const done = this.#drained;
    this.#drained = undefined;
    done?.();
  }

  #onClosed(error?: Error): void {
    this.#closed = true;
    this.#next();
    if (error) this.destroy(error);
    else if (!this.destroyed) this.push(null);
  }
}
