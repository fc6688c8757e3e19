/**
 * Opens and checks the files of a disk image before QEMU does, and describes them as a graph of
 * QEMU block nodes (QEMU, qapi/block-core.json, BlockdevOptions). Each node states its format and
 * file, and states explicitly if there is no backing file. So QEMU guesses no format and follows
 * no name in an image. The exception is the extents of a VMDK descriptor: QEMU opens them by name,
 * so they are checked here.
 *
 * An image may use another file only if the user allows that file or a folder that contains it
 * (docs/security.md).
 */
import { constants, open, realpath, stat, type FileHandle } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../../base/errors.js';
import { printable } from '../../base/printable.js';
import {
  footerBytes,
  formatBytes,
  formatOf,
  formatsOfName,
  imageFormats,
  isFixedVhd,
  type ImageFormat,
} from './formats.js';
import { isPlainVmdkExtent, referencesOf, type ReadAt, type References } from './references.js';
import { descriptorPath, type ReachedFile } from './sandbox/sandbox.node.js';

/** A QEMU block node, as JSON. */
export interface BlockNode {
  readonly driver: string;
  readonly [key: string]: string | number | null | BlockNode;
}

export interface ImageGraph {
  readonly node: BlockNode;
  /** The files to pass to qemu-nbd. The node refers to their descriptors in this order. */
  readonly files: readonly ReachedFile[];
  /** Closes the files in this process. */
  close(): Promise<void>;
}

export interface GraphOptions {
  readonly readOnly: boolean;
  /** Further files that the image may use, and folders whose files it may use. */
  readonly mayOpen: readonly string[];
}

/**
 * Maximum number of files of an image. An extent has up to 2 GiB; each file takes a descriptor of
 * this process while it is opened.
 */
const maxFiles = 1024;
/** Maximum number of images in a chain of backing files. */
const maxChain = 64;

/**
 * Opens an image and all files that it uses.
 * @throws FarbusError
 */
export async function openGraph(path: string, format: ImageFormat, options: GraphOptions): Promise<ImageGraph> {
  const builder = new GraphBuilder(options);
  try {
    const node = await builder.image(path, format, !options.readOnly);
    return { node, files: builder.files, close: () => builder.close() };
  } catch (error) {
    await builder.close();
    throw error;
  }
}

interface OpenFile extends ReachedFile {
  readonly handle: FileHandle;
}

class GraphBuilder {
  readonly #files: OpenFile[] = [];
  readonly #chain = new Set<string>();
  readonly #mayOpen: readonly string[];

  constructor({ mayOpen }: GraphOptions) {
    this.#mayOpen = mayOpen;
  }

  get files(): readonly ReachedFile[] {
    return this.#files;
  }

  async close(): Promise<void> {
    for (const { handle } of this.#files) await handle.close();
  }

  async image(path: string, format: ImageFormat, writable: boolean): Promise<BlockNode> {
    const { file, node, key } = await this.#open(path, writable);
    if (this.#chain.has(key)) throw new FarbusError(`${printable(path)} is its own backing file, by way of others`);
    if (this.#chain.size === maxChain)
      throw new FarbusError(`more than ${maxChain} images are in the chain of ${path}`);
    this.#chain.add(key);
    if (format === 'vpc') {
      const size = await fixedVhdSize(file.handle);
      // QEMU would probe the first bytes before the footer, and a guest controls those.
      if (size !== undefined) return { driver: 'raw', size, file: node };
    }
    const references = await referencesOf(format, readerOf(file.handle), printable(path));
    const backing = await this.#backing(path, references.backing);
    // null states that there is no backing file. If absent, QEMU would follow the name in the
    // image.
    const common = { driver: format, backing };
    if (references.data !== undefined) {
      const data = await this.#open(await this.#allowed(path, references.data), writable);
      return { ...common, file: node, 'data-file': data.node };
    }
    if (references.extents === undefined)
      return takesBacking.has(format) ? { ...common, file: node } : { driver: format, file: node };
    await this.#extents(path, references.extents, writable);
    // Pass the VMDK descriptor by path, because QEMU looks for the extents beside it.
    const filename = resolve(path);
    this.#files[this.#files.indexOf(file)] = { ...file, path: filename };
    return { ...common, file: { ...node, filename } };
  }

  async #backing(path: string, found: References['backing']): Promise<BlockNode | null> {
    if (!found) return null;
    const other = await this.#allowed(path, found.name);
    const format = await this.#backingFormat(path, other, found.format);
    if (format !== 'raw') return this.image(other, format, false);
    return { driver: 'raw', file: (await this.#open(other, false)).node };
  }

  /**
   * The format of a backing file: as recorded in the image, else by the file's name and content.
   */
  async #backingFormat(path: string, other: string, recorded: string | undefined): Promise<ImageFormat | 'raw'> {
    const known = (['raw', ...imageFormats] as const).find((one) => one === recorded);
    if (known !== undefined) return known;
    if (recorded === undefined) {
      const looks = (await stat(other)).isBlockDevice() ? undefined : await formatOfFile(other);
      const claimed = formatsOfName(other);
      if (!looks && claimed.length === 0) return 'raw';
      if (looks && claimed.includes(looks)) return looks;
    }
    throw new FarbusError(
      `${printable(path)} does not say of which known format its backing file ${printable(other)} is: ` +
        'record it with qemu-img rebase -u -b FILE -F FORMAT',
    );
  }

  /**
   * Opens the extents of a VMDK descriptor. An extent with its own header must not name further
   * files.
   */
  async #extents(path: string, extents: NonNullable<References['extents']>, writable: boolean): Promise<void> {
    const paths: string[] = [];
    for (const { name } of extents) paths.push(await this.#allowed(path, name));
    for (const [index, { header }] of extents.entries()) {
      const { file } = await this.#open(paths[index]!, writable);
      this.#files[this.#files.indexOf(file)] = { ...file, path: paths[index]! };
      if (header && !isPlainVmdkExtent(await readerOf(file.handle)(0, 512))) {
        throw new FarbusError(
          `${printable(paths[index]!)} is no sparse extent of a VMDK: make another image with qemu-img convert`,
        );
      }
    }
  }

  /**
   * The path of a file that the image `path` names.
   * @throws FarbusError if the user has not allowed it
   */
  async #allowed(path: string, name: string): Promise<string> {
    const [image, shown] = [printable(path), printable(name)];
    if (name === '' || name.includes('\0') || /^[a-z][a-z0-9+.-]*:/i.test(name)) {
      throw new FarbusError(
        `${image} takes content from ${JSON.stringify(shown)}, which is not a plain path: not opened`,
      );
    }
    const other = resolve(dirname(resolve(path)), name);
    const real = await realpath(other).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw openFailed(other, error);
    });
    for (const allowed of this.#mayOpen) {
      const place = await realpath(allowed).catch((error: unknown) => {
        throw openFailed(allowed, error);
      });
      const isFolder = (await stat(place)).isDirectory();
      if (real !== undefined && (real === place || (isFolder && real.startsWith(place.replace(/\/?$/, '/')))))
        return other;
    }
    const near = relative(process.cwd(), other);
    const give = printable(near.startsWith('..') ? other : near);
    throw new FarbusError(
      `${image} takes content from another file, ${shown}: if you trust it, allow that file with --may-open ${give}, ` +
        'or its folder; in the text of a drive with ,may-open=FILE',
    );
  }

  async #open(path: string, writable: boolean): Promise<{ file: OpenFile; node: BlockNode; key: string }> {
    if (this.#files.length === maxFiles) throw new FarbusError(`an image of more than ${maxFiles} files is not opened`);
    const flags = (writable ? constants.O_RDWR : constants.O_RDONLY) | (constants.O_NONBLOCK ?? 0);
    const handle = await open(path, flags).catch((error: unknown) => {
      throw openFailed(path, error);
    });
    const found = await handle.stat();
    const isDevice = found.isBlockDevice();
    if (!found.isFile() && !isDevice) {
      await handle.close();
      throw new FarbusError(`cannot open ${printable(path)}: it is neither a file nor a block device`);
    }
    const file = { handle, fd: handle.fd, writable, isDevice };
    const filename = descriptorPath(this.#files.push(file) - 1);
    return { file, node: { driver: isDevice ? 'host_device' : 'file', filename }, key: `${found.dev}:${found.ino}` };
  }
}

/** Formats that can have a backing file in QEMU and accept that option. */
const takesBacking: ReadonlySet<ImageFormat> = new Set(['qcow', 'qcow2', 'qed', 'vmdk']);

function readerOf(handle: FileHandle): ReadAt {
  return async (offset, length) => {
    const bytes = new Uint8Array(length);
    const { bytesRead } = await handle.read(bytes, 0, length, offset);
    return bytes.subarray(0, bytesRead);
  };
}

/** The size in bytes of the disk in a VHD of fixed size; undefined if the file is no such VHD. */
async function fixedVhdSize(handle: FileHandle): Promise<number | undefined> {
  const data = (await handle.stat()).size - footerBytes;
  const footer = await readerOf(handle)(Math.max(0, data), footerBytes);
  if (!isFixedVhd(footer)) return undefined;
  const { buffer, byteOffset } = footer;
  return Math.min(data, Number(new DataView(buffer, byteOffset).getBigUint64(48)));
}

async function formatOfFile(path: string): Promise<ImageFormat | undefined> {
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch((error: unknown) => {
    throw openFailed(path, error);
  });
  try {
    return formatOf(await readerOf(handle)(0, formatBytes));
  } finally {
    await handle.close();
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file: check the path',
  EACCES: 'permission denied: run as a user who may open it, or use --read-only if it may be read',
  EROFS: 'its file system is read-only: use --read-only',
};

function openFailed(path: string, error: unknown): FarbusError {
  const why = reasons[errnoOf(error) ?? ''] ?? `${messageOf(error)}: check the path`;
  return new FarbusError(`cannot open ${printable(path)}: ${why}`, { cause: error });
}
