/**
 * Opens disk images of other formats (qcow2, vmdk, vdi …) as BlockDevices through a private
 * qemu-nbd. If qemu-nbd dies, it is not restarted: its unflushed writes are lost, so every later
 * request fails.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { untilAbort } from '../../base/abort.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { BlockDevice, BlockInfo } from '../../block/device.js';
import { Filter } from '../../block/filters/filter.js';
import { unixDialer } from '../../network/dial.node.js';
import { connectNbd, type NbdInitiator } from '../nbd/initiator/initiator.js';
import type { ImageFormat } from './formats.js';
import { openGraph } from './graph.node.js';
import { QemuNbd } from './process.node.js';
import { sandboxKind } from './sandbox/sandbox.node.js';

/** Time limit for opening an image, in ms. */
const startMs = 30_000;

/** Options of {@link openImage}. */
export interface ImageOptions {
  /** The format of the image. */
  readonly format: ImageFormat;
  /** If true, the image is not written. Default false. */
  readonly readOnly?: boolean;
  /** Further files that the image may use, and folders whose files it may use. Default none. */
  readonly mayOpen?: readonly string[];
  /**
   * A dry run: check all files as for writing, but do not open the image to write, which changes
   * it in some formats. The device says that it can be written, but must not be. Default false.
   */
  readonly dryRun?: boolean | undefined;
  /** The image's identity, if known. */
  readonly identity?: string;
  /** Ends the opening. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
  /** Receives warnings. Default: nothing is logged. */
  readonly log?: Logger;
}

/**
 * Opens the image `path`. Rejects with a FarbusError if it uses a file that is not allowed, or
 * qemu-nbd is missing or cannot open it.
 */
export async function openImage(path: string, options: ImageOptions): Promise<BlockDevice> {
  const { format, readOnly = false, mayOpen = [], identity = '', signal, log = silent, dryRun = false } = options;
  if (sandboxKind() === 'none' && !process.env['FARBUS_NO_SANDBOX']) {
    log.log(
      'warn',
      `${path}: qemu-nbd runs without a sandbox: neither Landlock nor bubblewrap is here (docs/security.md)`,
    );
  }
  const graph = await untilAbort(signal, openGraph(path, format, { readOnly, mayOpen }), (late) => late.close());
  // qemu-nbd has its own descriptors of the files once it has started.
  const untouched = readOnly || dryRun;
  const server = await QemuNbd.start(graph, { readOnly: untouched, path }).finally(() => graph.close());
  try {
    signal?.throwIfAborted();
    const disk = await connect(server, path, untouched, signal);
    const can = dryRun && !readOnly ? { ...disk.info.can, ...writerAbilities } : disk.info.can;
    const facts = { identity: identity === '' ? '' : `${identity}#${format}`, readOnly, can };
    return new ImageDevice(disk, server, facts, (how) =>
      log.log('error', `${path}: qemu-nbd has ended (${how}): its disk gives errors until it is opened again`),
    );
  } catch (error) {
    await server.kill();
    throw error;
  }
}

/** Connects as soon as qemu-nbd listens. */
async function connect(
  process: QemuNbd,
  path: string,
  readOnly: boolean,
  signal: AbortSignal | undefined,
): Promise<NbdInitiator> {
  const dialer = unixDialer(process.socket, `${path} by qemu-nbd`);
  for (const end = performance.now() + startMs; ;) {
    try {
      return await connectNbd(dialer, { readOnly, reconnectSeconds: 0, signal });
    } catch (error) {
      signal?.throwIfAborted();
      if (!process.running) {
        await process.ended;
        throw process.failure();
      }
      if (performance.now() > end) throw new FarbusError(`qemu-nbd does not serve ${path}: ${messageOf(error)}`);
      await sleep(20);
    }
  }
}

type ImageFacts = Pick<BlockInfo, 'identity' | 'readOnly' | 'can'>;

/** Abilities that qemu-nbd offers for every image that it opens to write. */
const writerAbilities = { trim: true, writeZeroes: true };

class ImageDevice extends Filter {
  readonly #process: QemuNbd;
  readonly #facts: ImageFacts;
  #closed = false;

  /** Called once if the process ends before the device is closed. */
  constructor(next: BlockDevice, process: QemuNbd, facts: ImageFacts, died: (how: string) => void) {
    super(next);
    this.#process = process;
    this.#facts = facts;
    void process.ended.then((how) => {
      if (!this.#closed) died(how);
    });
  }

  protected override describe(next: BlockInfo): BlockInfo {
    // Report sectors like a file: guests need them, but qemu-nbd reports blocks of one byte.
    const blockSize = next.size % 512 === 0 ? Math.max(512, next.blockSize) : next.blockSize;
    return { ...next, blockSize, ...this.#facts };
  }

  protected override async doClose(): Promise<void> {
    this.#closed = true;
    await this.next.close().catch(() => undefined);
    await this.#process.stop();
  }
}
