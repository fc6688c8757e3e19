/** Numbers as bytes, and bytes joined, fast enough for fuzzing. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Big-endian numbers one after the other: pairs of [value, bytes]. */
export function pack(...fields: readonly (readonly [value: number | bigint, size: number])[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [, size]) => sum + size, 0));
  let at = 0;
  for (const [value, size] of fields) {
    let rest = BigInt(value);
    for (let byte = size - 1; byte >= 0; byte--) {
      bytes[at + byte] = Number(rest & 255n);
      rest >>= 8n;
    }
    at += size;
  }
  return bytes;
}

const encoder = new TextEncoder();

export function text(value: string): Uint8Array {
  return encoder.encode(value);
}

/** A string with its length in front. */
export function string(value: string): Uint8Array {
  const bytes = text(value);
  return join(pack([bytes.length, 4]), bytes);
}
