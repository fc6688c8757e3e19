/**
 * A device on a server as a BlockDevice, over a pool of channels: the part that dd and SFTP share.
 *
 * Not here: reconnection (pool.ts); the protocols themselves (protocol/dd, protocol/sftp).
 */
import type { Buffers } from '../../base/buffers.js';
import { FarbusError } from '../../base/errors.js';
import { silent } from '../../base/log.js';
import type { BlockInfo, RequestOptions, WriteOptions, ZeroOptions } from '../../block/device.js';
import { abortedError, BlockError } from '../../block/errors.js';
import { isDecisive } from '../../block/identity.js';
import type { FenceOptions } from '../../block/fence.js';
import type { FenceKey, Life } from '../../block/life.js';
import { ContentWitness } from '../../block/witness.js';
import type { Channel, ChannelOpener, RemoteFacts } from './channel.js';
import { InitiatorDevice, type InitiatorOptions } from '../remote/initiator-device.js';
import { Pool } from './pool.js';
import { allSettled, type RemoteAsk, type RemoteOperation } from './request.js';

/** The properties of one kind of channel (dd, SFTP). */
export interface RemoteKind {
  /** The address, for messages and as the device's identity. */
  readonly address: string;
  /** Most channels at the same time. */
  readonly channels: number;
  /** Splits a request into parts that fit into one command of the channel each. */
  readonly divide: (
    op: RemoteOperation,
    offset: number,
    length: number,
  ) => readonly { offset: number; length: number }[];
  /** True if zeroes can be written without sending them. */
  readonly zeroes: boolean;
  readonly preferredSize: number;
}

/** Longest transfer of one request, in bytes. `RemoteKind.divide` splits it further. */
const maxTransfer = 32 << 20;

/**
 * Makes a device from `first` and from channels that are opened later. On failure, closes `first`
 * and rejects with a FarbusError.
 */
export async function remoteDevice(
  first: Channel,
  open: ChannelOpener,
  kind: RemoteKind,
  options: InitiatorOptions = {},
): Promise<RemoteDevice> {
  try {
    options.signal?.throwIfAborted();
    await options.life?.note(first.fenceKey);
    return deviceOf(first, open, kind, options);
  } catch (error) {
    first.destroy();
    throw error;
  }
}

function deviceOf(first: Channel, open: ChannelOpener, kind: RemoteKind, options: InitiatorOptions): RemoteDevice {
  const { reconnectSeconds = 60, readOnly = false, log = silent, life, onState = () => undefined } = options;
  const { address, channels } = kind;
  if (!(reconnectSeconds >= 0)) throw new FarbusError('the time to reconnect is a number of seconds: 0 or more');
  if (first.facts.used !== '' && !readOnly && !first.facts.readOnly) {
    // If two systems write to one file system, they destroy it.
    throw new FarbusError(
      `cannot open ${address}: on the server it is ${first.facts.used}: stop that there, or take it read-only`,
      { kind: 'device' },
    );
  }
  // Marks that are not decisive may no longer exist after the server's next restart: watch the
  // content too.
  const watches = !options.assumeSame && !isDecisive(first.facts.marks);
  const witness = watches ? new ContentWitness() : undefined;
  const pool = new Pool(first, open, { address, channels, witness, life, reconnectSeconds, log, onState });
  const info = infoOf(first.facts, kind, readOnly);
  if (!info.readOnly && !info.can.flush) {
    log.log('warn', `${address}: the server cannot make writes durable on request: no flush is offered`);
  }
  const fence = { address, seconds: reconnectSeconds, log, fence: (key: FenceKey) => pool.fence(key) };
  return new RemoteDevice(pool, info, kind, life, fence);
}

/** Made by {@link remoteDevice}. */
export class RemoteDevice extends InitiatorDevice {
  readonly #info: BlockInfo;
  readonly #pool: Pool;
  readonly #kind: RemoteKind;

  constructor(pool: Pool, info: BlockInfo, kind: RemoteKind, life: Life | undefined, fence: FenceOptions) {
    super(pool, life, fence);
    this.#pool = pool;
    this.#info = info;
    this.#kind = kind;
  }

  get info(): BlockInfo {
    const { away } = this.#pool;
    return away === undefined ? this.#info : { ...this.#info, away };
  }

  protected sendRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    return this.#parts('read', offset, into, options);
  }

  protected sendWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.#parts('write', offset, from, options);
  }

  protected sendFlush({ signal }: RequestOptions): Promise<void> {
    return this.#run({ op: 'flush', offset: 0, length: 0, signal });
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    if (options.fastOnly) throw new BlockError('unsupported', 'zeroing is not faster than writing there');
    await this.fenced(options.signal);
    const parts = this.#kind.divide('zero', offset, length);
    // Few parts at a time: each may take long, and the range may be the whole disk.
    for (let at = 0; at < parts.length; at += this.#kind.channels) {
      if (options.signal?.aborted) throw abortedError();
      const some = parts.slice(at, at + this.#kind.channels);
      const done = allSettled(some.map((part) => this.#run({ op: 'zero', ...part, signal: options.signal })));
      this.#pool.witness?.onWrite(offset, length, undefined, done);
      await done;
    }
  }

  #parts(op: 'read' | 'write', offset: number, buffers: Buffers, { signal }: RequestOptions): Promise<void> {
    const parts = this.#kind.divide(op, offset, buffers.length);
    if (parts.length === 1) return this.#run({ op, offset, length: buffers.length, buffers, signal });
    return allSettled(
      parts.map((part) => {
        const start = part.offset - offset;
        return this.#run({ op, ...part, buffers: buffers.slice(start, start + part.length), signal });
      }),
    );
  }

  #run(ask: RemoteAsk): Promise<void> {
    return this.#pool.run(ask).done;
  }
}

function infoOf(facts: RemoteFacts, { address, zeroes, preferredSize }: RemoteKind, readOnly: boolean): BlockInfo {
  const blockSize = facts.sector ?? dividing(facts.size, 512);
  return {
    // A partial block at the end cannot be accessed.
    size: facts.size - (facts.size % blockSize),
    tail: facts.size % blockSize,
    blockSize,
    preferredSize: Math.max(preferredSize, blockSize),
    maxTransfer,
    readOnly: readOnly || facts.readOnly,
    removable: false,
    rotational: false,
    identity: address,
    marks: facts.marks,
    can: { flush: facts.flush, fua: false, trim: false, writeZeroes: zeroes, extents: false, multiConnection: false },
  };
}

/** The largest power of two that divides `size` and is at most `most`. */
function dividing(size: number, most: number): number {
  let unit = most;
  while (size % unit !== 0) unit /= 2;
  return unit;
}
