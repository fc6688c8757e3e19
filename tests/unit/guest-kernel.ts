/** Kernels for tests: a bzImage with a setup header and a payload, without code. */
import { execFileSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';

/** The first bytes of an ELF file, followed by enough bytes to be worth compressing. */
export const vmlinux = Buffer.concat([
  Buffer.from('7f454c4601010100', 'hex'),
  Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * i) % 251)),
]);

/** The payload of a kernel with `content`: compressed, with its uncompressed size at the end. */
export function packed(format: 'xz' | 'gzip' | 'zstd' | 'LZ4' | 'none', content: Uint8Array = vmlinux): Buffer {
  if (format === 'none') return Buffer.from(content);
  if (format === 'gzip') return gzipSync(content);
  // Like the kernel's scripts/xz_wrap.sh: with the filter for x86 code, and a CRC32 check.
  const xz = ['--check=crc32', '--x86', '--lzma2=dict=1MiB', '-c'];
  const args = { xz, zstd: ['-c'], LZ4: ['-l', '-9', '-c'] }[format];
  const size = Buffer.alloc(4);
  size.writeUInt32LE(content.length);
  return Buffer.concat([execFileSync(format.toLowerCase(), args, { input: content }), size]);
}

/** A bzImage of boot protocol 2.15. */
export function bzImage(payload: Uint8Array, setupSectors = 3): Buffer {
  const offset = 0x30;
  const start = ((setupSectors || 4) + 1) * 512 + offset;
  const file = Buffer.alloc(start + payload.length + 100);
  file[0x1f1] = setupSectors;
  file.write('HdrS', 0x202, 'latin1');
  file.writeUInt16LE(0x020f, 0x206);
  file.writeUInt32LE(offset, 0x248);
  file.writeUInt32LE(payload.length, 0x24c);
  file.set(payload, start);
  return file;
}
