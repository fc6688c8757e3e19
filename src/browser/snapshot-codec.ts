/** Compression and digest of snapshots (machine/snapshot.ts) with the functions of a browser. */
import type { SnapshotCodec } from '../machine/snapshot.js';

/** The codec. The digest needs a secure context: https, or a loopback address. */
export const browserCodec: SnapshotCodec = {
  compress: (bytes) => through(bytes, new CompressionStream('deflate-raw')),
  decompress: (bytes) => through(bytes, new DecompressionStream('deflate-raw')),
  digest: async (parts) => {
    const whole = new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
    return new Uint8Array(await crypto.subtle.digest('SHA-256', whole));
  },
};

async function through(bytes: Uint8Array, transform: CompressionStream | DecompressionStream): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
