/** A serial console as the terminal shows it, of a computer anywhere. */
import { withoutQueries } from '../../../base/console-feed.js';

export interface Console {
  /** Receives the output, first what has been kept of it. Returns the end of it. */
  watch(receive: (bytes: Uint8Array) => void): () => void;
  /** Sends what the user types. */
  send(bytes: Uint8Array): void;
}

/** Bytes of output that are kept, so that a terminal that is opened later shows them. */
const most = 256 * 1024;

/** Keeps the last output of a console. */
export class ConsoleOutput {
  #chunks: Uint8Array[] = [];
  #size = 0;
  readonly #watchers = new Set<(bytes: Uint8Array) => void>();

  add(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#size += bytes.length;
    while (this.#size > most && this.#chunks.length > 1) this.#size -= this.#chunks.shift()!.length;
    for (const watcher of this.#watchers) watcher(bytes);
  }

  watch(receive: (bytes: Uint8Array) => void): () => void {
    if (this.#size > 0) receive(withoutQueries(joined(this.#chunks, this.#size)));
    this.#watchers.add(receive);
    return () => void this.#watchers.delete(receive);
  }
}

function joined(chunks: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}
