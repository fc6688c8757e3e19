/**
 * Unpacks the kernel proper from a bzImage on the host. In the guest this would take the emulated
 * processor seconds.
 *
 * Specification: the Linux kernel's Documentation/x86/boot.rst ([BOOT] below) for the header; the
 * magic numbers of the compression formats; scripts/Makefile.lib for the last four bytes of the
 * payload (its unpacked size, little-endian).
 *
 * Left out: LZMA, LZO and bzip2 payloads, which no kernel package of Debian has.
 */
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { unpackLz4 } from './archive/lz4.js';
import { unpackXz } from './archive/xz.js';
import { runTool, type ToolOptions } from './tools.node.js';

/** A kernel, packed and unpacked. */
export interface Kernel {
  /** The file as Debian ships it, with the setup header at 0x1f1. */
  readonly bzImage: Uint8Array;
  /** The unpacked ELF file. */
  readonly vmlinux: Uint8Array;
}

/** [BOOT] "The Real-Mode Kernel Header": offsets in the file. */
const header = { setupSects: 0x1f1, magic: 0x202, version: 0x206, payloadOffset: 0x248, payloadLength: 0x24c } as const;
/** "HdrS" */
const headerMagic = 0x53726448;
/** The first version of the boot protocol that has the payload fields. */
const firstVersion = 0x0208;
const sectorBytes = 512;
/** Maximum unpacked size in bytes; no kernel reaches it. */
const maxKernel = 512 * 1024 * 1024;
const elfMagic = 0x464c457f;

/** First bytes of the possible payload formats, in hexadecimal. */
const formats = {
  gzip: '1f8b',
  xz: 'fd377a585a00',
  zstd: '28b52ffd',
  LZ4: '02214c18',
  LZMA: '5d0000',
  LZO: '894c5a4f',
  bzip2: '425a68',
  none: '7f454c46',
} as const;

type Format = keyof typeof formats;

/**
 * Reads a bzImage and unpacks its payload.
 * @throws FarbusError if the file is no bzImage, is damaged, or needs a program that is missing
 */
export async function unpackKernel(file: string, options: ToolOptions = {}): Promise<Kernel> {
  let bzImage: Uint8Array;
  try {
    bzImage = await readFile(file);
  } catch (error) {
    throw new FarbusError(`cannot read the kernel ${file} (${errnoOf(error) ?? messageOf(error)})`, { cause: error });
  }
  return { bzImage, vmlinux: await unpackPayload(bzImage, file, options) };
}

/**
 * Unpacks the ELF file in a bzImage.
 * @param name The file's name, for messages.
 */
export async function unpackPayload(bzImage: Uint8Array, name: string, options: ToolOptions = {}): Promise<Uint8Array> {
  const payload = findPayload(bzImage, name);
  const format = formatOf(payload);
  // Every packed format ends with the unpacked size: gzip includes it, for others the kernel's
  // build appends it.
  const size = new DataView(payload.buffer, payload.byteOffset + payload.length - 4, 4).getUint32(0, true);
  const vmlinux = format === 'none' ? payload : await decompress(payload, format, size, name, options);
  const whole = format === 'none' || vmlinux.length === size;
  if (
    !whole ||
    vmlinux.length < 52 ||
    new DataView(vmlinux.buffer, vmlinux.byteOffset).getUint32(0, true) !== elfMagic
  ) {
    throw damaged(name);
  }
  return vmlinux;
}

function findPayload(bzImage: Uint8Array, name: string): Uint8Array {
  const view = new DataView(bzImage.buffer, bzImage.byteOffset, bzImage.byteLength);
  if (bzImage.length < header.payloadLength + 4 || view.getUint32(header.magic, true) !== headerMagic) {
    throw new FarbusError(`${name} is not a Linux kernel for x86 (a bzImage)`);
  }
  if (view.getUint16(header.version, true) < firstVersion) {
    throw new FarbusError(`the kernel ${name} is too old: its boot protocol must be 2.08 or newer`);
  }
  // [BOOT] setup_sects: "If this field contains 0, the real value is 4". The boot sector is not
  // counted.
  const setupSectors = bzImage[header.setupSects]! || 4;
  const start = (setupSectors + 1) * sectorBytes + view.getUint32(header.payloadOffset, true);
  const end = start + view.getUint32(header.payloadLength, true);
  if (end > bzImage.length || end - start < 8) throw damaged(name);
  return bzImage.subarray(start, end);
}

function formatOf(payload: Uint8Array): Format | undefined {
  const begin = Buffer.from(payload.subarray(0, 8)).toString('hex');
  return (Object.keys(formats) as Format[]).find((format) => begin.startsWith(formats[format]));
}

async function decompress(
  payload: Uint8Array,
  format: Format | undefined,
  size: number,
  name: string,
  options: ToolOptions,
): Promise<Uint8Array> {
  if (format !== 'gzip' && format !== 'xz' && format !== 'zstd' && format !== 'LZ4') {
    throw new FarbusError(
      `the kernel ${name} is packed in ${format ?? 'an unknown format'}, which is not supported: take one packed with xz, zstd, LZ4 or gzip`,
    );
  }
  if (size === 0 || size > maxKernel) throw damaged(name);
  if (format === 'gzip') {
    return await promisify(gunzip)(payload, { maxOutputLength: size }).catch(() => {
      throw damaged(name);
    });
  }
  if (format === 'xz') return unpackedXz(payload.subarray(0, -4), size, name);
  if (format === 'LZ4') return unpackedLz4(payload.subarray(0, -4), size, name);
  const result = await runTool(format, ['-dc'], { ...options, input: payload.subarray(0, -4), maxOutput: size });
  if (result.status !== 0) throw damaged(name);
  return result.output;
}

function unpackedXz(payload: Uint8Array, size: number, name: string): Uint8Array {
  const vmlinux = new Uint8Array(size);
  let done = 0;
  try {
    for (const part of unpackXz(payload)) {
      vmlinux.set(part, done);
      done += part.length;
    }
  } catch (error) {
    // Also if the contents are larger than they should be.
    if (!(error instanceof RangeError)) throw error;
    throw damaged(name);
  }
  return vmlinux.subarray(0, done);
}

function unpackedLz4(payload: Uint8Array, size: number, name: string): Uint8Array {
  const vmlinux = new Uint8Array(size);
  try {
    return vmlinux.subarray(0, unpackLz4(payload, vmlinux));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw damaged(name);
  }
}

function damaged(name: string): FarbusError {
  return new FarbusError(`the kernel ${name} is damaged: get it again`);
}
