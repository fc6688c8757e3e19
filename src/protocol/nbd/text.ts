/** Texts of NBD: UTF-8 strings in byte arrays. Both roles use it. */

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Encodes a string as UTF-8. */
export function encodeString(text: string): Uint8Array {
  return encoder.encode(text);
}

/**
 * Encodes like {@link encodeString}, truncated to at most `max` bytes at a character boundary. For
 * explanatory texts only.
 */
export function encodeText(text: string, max: number): Uint8Array {
  const into = new Uint8Array(max);
  const { written } = encoder.encodeInto(text, into);
  return into.subarray(0, written);
}

/** Decodes UTF-8. Undefined if `bytes` is not UTF-8 or contains a NUL ([NBD] "Conventions"). */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
