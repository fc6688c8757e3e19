/** Texts of fixed length in identify data: printable ASCII (20h to 7Eh), padded at the end. */

/** Writes `text`, cut to `length` bytes. Characters that are not printable ASCII become "?". */
export function putAscii(data: Uint8Array, at: number, length: number, text: string, pad = 0x20): void {
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (i >= text.length) data[at + i] = pad;
    else data[at + i] = code >= 0x20 && code <= 0x7e ? code : 0x3f;
  }
}

/** Reads a text without its padding. Bytes that are not printable ASCII become blanks. */
export function getAscii(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.map((byte) => (byte >= 0x20 && byte <= 0x7e ? byte : 0x20))).trim();
}
