/**
 * Disk images of other formats (qcow2, vmdk, vdi …) as BlockDevices, through a qemu-nbd of our own. It is not restarted
 * when it dies: what it had not flushed is gone with it, so every later request fails instead.
 */
import { constants, open, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { FarbusError, messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { BlockDevice, BlockInfo } from '../../block/device.js';
import { Filter } from '../../block/filters/filter.js';
import { unixDialer } from '../../network/dial.node.js';
import { connectNbd, type NbdInitiator } from '../nbd/initiator/initiator.js';
import { footerBytes, formatBytes, formatOf, isFixedVhd, type ImageFormat } from './formats.js';
import { openGraph } from './graph.node.js';
import { QemuNbd } from './process.node.js';
import { sandboxKind } from './sandbox/sandbox.node.js';

/** How long it may take to open an image, in ms. */
const startMs = 30_000;

export interface ImageOptions {
  readonly format: ImageFormat;
  readonly readOnly?: boolean;
  /** Files that the image may use besides its own, and folders whose files it may use. Default none. */
  readonly mayOpen?: readonly string[];
  /** The image's identity, where it is known. */
  readonly identity?: string;
  readonly log?: Logger;
}

/**
 * The format that the regular file at `path` looks like; undefined where its bytes are those of no known image, or
 * cannot be read. A block device is never looked at: its content is a guest's, and a drive may notice.
 */
export async function detectFormat(path: string): Promise<ImageFormat | undefined> {
  // Without O_NONBLOCK opening a pipe waits for its writer.
  if (!(await stat(path).catch(() => undefined))?.isFile()) return undefined;
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch(() => undefined);
  if (!handle) return undefined;
  try {
    const bytes = new Uint8Array(formatBytes);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    const found = formatOf(bytes.subarray(0, bytesRead));
    if (found !== undefined) return found;
    const end = await handle.read(
      new Uint8Array(footerBytes),
      0,
      footerBytes,
      (await handle.stat()).size - footerBytes,
    );
    return end.bytesRead === footerBytes && isFixedVhd(end.buffer) ? 'vpc' : undefined;
  } catch {
    // Opening it as a disk will say what is wrong with it.
    return undefined;
  } finally {
    await handle.close();
  }
}

/**
 * Opens the image at `path`. Rejects with a FarbusError: it uses a file that it may not, qemu-nbd is missing, or cannot
 * open it.
 */
export async function openImage(path: string, options: ImageOptions): Promise<BlockDevice> {
  const { format, readOnly = false, mayOpen = [], identity = '', log = silent } = options;
  if (sandboxKind() === 'none' && !process.env['FARBUS_NO_SANDBOX']) {
    log.log(
      'warn',
      `${path}: qemu-nbd runs without a sandbox: neither Landlock nor bubblewrap is here (docs/security.md)`,
    );
  }
  const graph = await openGraph(path, format, { readOnly, mayOpen });
  // qemu-nbd has descriptors of its own of the files from its start on.
  const server = await QemuNbd.start(graph, { readOnly, path }).finally(() => graph.close());
  try {
    const disk = await connect(server, path, readOnly);
    return new ImageDevice(disk, server, identity === '' ? '' : `${identity}#${format}`, (how) =>
      log.log('error', `${path}: qemu-nbd has ended (${how}): its disk gives errors until it is opened again`),
    );
  } catch (error) {
    await server.kill();
    throw error;
  }
}

/** Connects as soon as it listens. */
async function connect(process: QemuNbd, path: string, readOnly: boolean): Promise<NbdInitiator> {
  const dialer = unixDialer(process.socket, `${path} by qemu-nbd`);
  for (const end = performance.now() + startMs; ;) {
    try {
      return await connectNbd(dialer, { readOnly, reconnectSeconds: 0 });
    } catch (error) {
      if (!process.running) {
        await process.ended;
        throw process.failure();
      }
      if (performance.now() > end) throw new FarbusError(`qemu-nbd does not serve ${path}: ${messageOf(error)}`);
      await sleep(20);
    }
  }
}

class ImageDevice extends Filter {
  readonly #process: QemuNbd;
  readonly #identity: string;
  #closed = false;

  /** @param died Told once if the process ends before the device is closed. */
  constructor(next: BlockDevice, process: QemuNbd, identity: string, died: (how: string) => void) {
    super(next);
    this.#process = process;
    this.#identity = identity;
    void process.ended.then((how) => {
      if (!this.#closed) died(how);
    });
  }

  protected override describe(next: BlockInfo): BlockInfo {
    // As a file: guests want sectors, and qemu-nbd tells of single bytes.
    const blockSize = next.size % 512 === 0 ? Math.max(512, next.blockSize) : next.blockSize;
    return { ...next, blockSize, identity: this.#identity };
  }

  protected override async doClose(): Promise<void> {
    this.#closed = true;
    await this.next.close().catch(() => undefined);
    await this.#process.stop();
  }
}
