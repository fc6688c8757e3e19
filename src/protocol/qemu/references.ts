/**
 * Finds the other files that a disk image names in its header: a backing file, a data file,
 * extents. Specification: QEMU, docs/interop/qcow2.txt and qed_spec.txt, block/qcow.c; VMware,
 * Virtual Disk Format 5.0; Microsoft, VHD 1.0.
 *
 * The result tells which files the user must allow before the image is opened. qemu-nbd opens the
 * files in the graph that it is given (graph.node.ts), not those in the header, except the extents
 * of a VMDK descriptor.
 */
import { getU32 } from '../../base/big-endian.js';
import { FarbusError } from '../../base/errors.js';
import type { ImageFormat } from './formats.js';
import { parseVmdkDescriptor, type VmdkExtent } from './vmdk-descriptor.js';

/** The files that an image refers to, by the names in its header. */
export interface References {
  readonly backing?: {
    readonly name: string;
    /** The backing file's format that the image records; undefined if it records none. */
    readonly format: string | undefined;
  };
  /** File with the data as raw bytes. */
  readonly data?: string;
  /** Extents of a VMDK that is a text descriptor. QEMU opens them by name. */
  readonly extents?: readonly VmdkExtent[];
}

/** Reads `length` bytes at `offset`; fewer at the end of the file. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * QEMU's limits in bytes: the name of a backing file, a descriptor, the cluster with the qcow2
 * header.
 */
const maxName = 1023;
const maxDescriptor = 1 << 20;
const maxCluster = 2 << 20;

/** Types of qcow2 header extensions. */
const backingFormat = 0xe279_2aca;
const externalData = 0x4441_5441;

/**
 * The files that the image `name` refers to.
 * @throws FarbusError if its header is damaged or of an unsupported kind
 */
export async function referencesOf(format: ImageFormat, read: ReadAt, name: string): Promise<References> {
  const damaged = new FarbusError(`${name} is not a whole ${format} image: check that the format is right`);
  const header = await read(0, 512);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const readText = async (offset: number, length: number): Promise<string> => {
    if (length < 1 || length > maxName || offset > maxCluster) throw damaged;
    const bytes = await read(offset, length);
    if (bytes.length < length || bytes.includes(0)) throw damaged;
    return new TextDecoder('utf-8', { fatal: false }).decode(bytes);
  };
  switch (format) {
    case 'qcow':
    case 'qcow2': {
      if (header.length < 48 || latin1(header, 0, 4) !== 'QFI\xfb') throw damaged;
      const offset = Number(view.getBigUint64(8));
      const extensions = format === 'qcow2' ? await qcow2Extensions(view, read, offset) : undefined;
      // QEMU regards a qcow2 image without the offset as one without a backing file, and fails if
      // the length is 0.
      const backing = offset === 0 ? undefined : await readText(offset, view.getUint32(16));
      const external = format === 'qcow2' && view.getUint32(4) >= 3 && (header[79]! & 4) !== 0;
      if (external && extensions?.data === undefined) throw damaged;
      return {
        ...(backing !== undefined && { backing: { name: backing, format: extensions?.format } }),
        ...(external && { data: extensions!.data! }),
      };
    }
    case 'qed': {
      if (header.length < 64 || latin1(header, 0, 4) !== 'QED\0') throw damaged;
      if ((header[16]! & 1) === 0) return {};
      const backing = await readText(view.getUint32(56, true), view.getUint32(60, true));
      // Feature bit 2: the backing file is raw.
      return { backing: { name: backing, format: (header[16]! & 4) !== 0 ? 'raw' : undefined } };
    }
    case 'vmdk':
      return vmdkReferences(header, view, read, name, damaged);
    case 'vpc':
      if (header.length >= 64 && latin1(header, 0, 8) === 'conectix' && getU32(header, 60) === 4) {
        throw new FarbusError(`${name} is a differencing VHD, which is not supported: convert it`);
      }
      return {};
    default:
      // QEMU does not open images of these formats that have a parent.
      return {};
  }
}

/**
 * Reads the header extensions: the backing file's format and the data file's name. They are between
 * the header and the backing file's name.
 */
async function qcow2Extensions(
  header: DataView,
  read: ReadAt,
  backingOffset: number,
): Promise<{ format?: string; data?: string }> {
  const version = header.getUint32(4);
  let at = version >= 3 ? header.getUint32(100) : 72;
  const bits = header.getUint32(20);
  const cluster = 2 ** Math.min(bits, 21);
  const end = backingOffset > 0 ? Math.min(backingOffset, cluster) : cluster;
  const bytes = await read(0, end);
  const found: { format?: string; data?: string } = {};
  for (; at + 8 <= bytes.length;) {
    const [type, length] = [getU32(bytes, at), getU32(bytes, at + 4)];
    if (type === 0) break;
    const text = (): string => new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + length)).replace(/\0[^]*$/, '');
    if (type === backingFormat) found.format = text();
    if (type === externalData) found.data = text();
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

async function vmdkReferences(
  header: Uint8Array,
  view: DataView,
  read: ReadAt,
  name: string,
  damaged: FarbusError,
): Promise<References> {
  const magic = latin1(header, 0, 4);
  if (magic === 'COWD') return {};
  const backing = (parent: string | undefined): References =>
    parent === undefined ? {} : { backing: { name: parent, format: 'vmdk' } };
  if (magic !== 'KDMV') {
    const text = await read(0, maxDescriptor);
    if (text.length === maxDescriptor) throw damaged;
    const { extents, parent } = parseVmdkDescriptor(latin1(text, 0, text.length), name);
    return { ...backing(parent), extents };
  }
  if (header.length < 512) throw damaged;
  if (!hasCapacity(header)) {
    throw new FarbusError(
      `${name}: a VMDK without capacity, whose descriptor names other files, is not opened: make another image of it with qemu-img convert`,
    );
  }
  const [offset, sectors] = [Number(view.getBigUint64(28, true)), Number(view.getBigUint64(36, true))];
  if (offset === 0) return {};
  if (offset * 512 > Number.MAX_SAFE_INTEGER || sectors * 512 > maxDescriptor) throw damaged;
  const text = await read(offset * 512, sectors * 512);
  return backing(parseVmdkDescriptor(latin1(text, 0, text.length), name).parent);
}

/**
 * True if a VMDK extent with this header holds its own data. With capacity 0, its descriptor names
 * further files.
 */
export function isPlainVmdkExtent(header: Uint8Array): boolean {
  const magic = latin1(header, 0, 4);
  return magic === 'COWD' || (magic === 'KDMV' && hasCapacity(header));
}

function hasCapacity(header: Uint8Array): boolean {
  return header.subarray(12, 20).some((byte) => byte !== 0);
}

function latin1(bytes: Uint8Array, at: number, length: number): string {
  let text = '';
  for (const byte of bytes.subarray(at, at + length)) text += String.fromCharCode(byte);
  return text;
}
