/** The bytes of WebSocket messages: how a stream groups and joins its chunks. */

/**
 * Longest message that is sent, in bytes. Larger ones cost fewer events, smaller ones let the peer
 * begin earlier.
 */
const sendSize = 1 << 20;

/** The bytes of a message; undefined for text. */
export function bytesOf(data: unknown): readonly Uint8Array[] | undefined {
  if (data instanceof ArrayBuffer) return [new Uint8Array(data)];
  if (data instanceof Uint8Array) return [data];
  if (Array.isArray(data)) return data as Uint8Array[];
  return undefined;
}

/** Groups chunks to messages of at most {@link sendSize} bytes; a longer chunk is split. */
export function* messagesOf(chunks: readonly Uint8Array[]): Iterable<readonly Uint8Array[]> {
  let message: Uint8Array[] = [];
  let length = 0;
  for (const chunk of chunks) {
    for (let from = 0; from < chunk.length;) {
      const part = chunk.subarray(from, from + sendSize - length);
      message.push(part);
      length += part.length;
      from += part.length;
      if (length < sendSize) continue;
      yield message;
      message = [];
      length = 0;
    }
  }
  if (length > 0) yield message;
}

/** A chunk of at least this length is sent as a message of its own, without a copy. In bytes. */
const copyBelow = 1 << 16;

/** The chunks with neighbours joined, except those that are long. */
export function* withFewCopies(chunks: readonly Uint8Array[]): Iterable<Uint8Array<ArrayBuffer>> {
  let short: Uint8Array[] = [];
  for (const chunk of chunks) {
    if (chunk.length < copyBelow || !isPlain(chunk)) {
      short.push(chunk);
      continue;
    }
    if (short.length > 0) yield joined(short);
    short = [];
    yield chunk;
  }
  if (short.length > 0) yield joined(short);
}

/** A browser's socket sends no shared memory. */
function isPlain(chunk: Uint8Array): chunk is Uint8Array<ArrayBuffer> {
  return chunk.buffer instanceof ArrayBuffer;
}

function joined(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(lengthOf(chunks));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

export function lengthOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}
