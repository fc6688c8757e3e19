/**
 * A device on a server as a BlockDevice, over a pool of channels: the part that dd and SFTP share.
 *
 * Not here: reconnection (pool.ts); the protocols themselves (protocol/dd, protocol/sftp).
 */
import type { Buffers } from '../../base/buffers.js';
import { FarbusError } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import { BlockBase } from '../../block/base.js';
import type { BlockInfo, RequestOptions, WriteOptions, ZeroOptions } from '../../block/device.js';
import { abortedError, BlockError } from '../../block/errors.js';
import { isDecisive } from '../../block/identity.js';
import { Fence } from '../../block/fence.js';
import type { Fate, Life, FenceKey } from '../../block/life.js';
import { ContentWitness } from '../../block/witness.js';
import type { Channel, ChannelOpener, RemoteFacts } from './channel.js';
import type { RemoteState } from '../remote/reconnection.js';
import { Pool } from './pool.js';
import { allSettled, type RemoteAsk, type RemoteOperation } from './request.js';

export interface RemoteOptions {
  /** Refuses writes, even if the server allows them. Default false. */
  readonly readOnly?: boolean | undefined;
  /**
   * How long requests wait for a lost connection to return, in seconds. 0: do not reconnect.
   * Default 60.
   */
  readonly reconnectSeconds?: number | undefined;
  /**
   * If a disk cannot be recognised after a reconnect, assume that it is the same one. Default
   * false.
   */
  readonly assumeSame?: boolean | undefined;
  /**
   * Stores the keys by which the next process fences this one, and supplies those of earlier
   * processes. Default: no fencing.
   */
  readonly life?: Life | undefined;
  /** Ends the opening. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
  readonly log?: Logger | undefined;
  /** Called at every change of the connection's state, with a line of detail. Must not throw. */
  readonly onState?: ((state: RemoteState, detail: string) => void) | undefined;
}

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
  options: RemoteOptions = {},
): Promise<RemoteDevice> {
  try {
    options.signal?.throwIfAborted();
    await options.life?.note(first.fenceKey);
    return new RemoteDevice(first, open, kind, options);
  } catch (error) {
    first.destroy();
    throw error;
  }
}

/** Made by {@link remoteDevice}. */
export class RemoteDevice extends BlockBase {
  readonly info: BlockInfo;
  readonly #pool: Pool;
  readonly #witness: ContentWitness | undefined;
  readonly #life: Life | undefined;
  readonly #fence: Fence | undefined;
  readonly #kind: RemoteKind;

  constructor(first: Channel, open: ChannelOpener, kind: RemoteKind, options: RemoteOptions) {
    super();
    const { reconnectSeconds = 60, log = silent, onState = () => undefined } = options;
    if (!(reconnectSeconds >= 0)) throw new FarbusError('the time to reconnect is a number of seconds: 0 or more');
    if (first.facts.used !== '' && !options.readOnly && !first.facts.readOnly) {
      // If two systems write to one file system, they destroy it.
      throw new FarbusError(
        `cannot open ${kind.address}: on the server it is ${first.facts.used}: stop that there, or take it read-only`,
        { kind: 'device' },
      );
    }
    this.#kind = kind;
    this.info = infoOf(first.facts, kind, options.readOnly ?? false);
    // Marks that are not decisive may no longer exist after the server's next restart: watch the
    // content too.
    if (!options.assumeSame && !isDecisive(first.facts.marks)) this.#witness = new ContentWitness();
    this.#pool = new Pool(first, open, {
      address: kind.address,
      channels: kind.channels,
      witness: this.#witness,
      life: options.life,
      reconnectSeconds,
      log,
      onState,
    });
    this.#life = options.life;
    const fence = (key: FenceKey): Promise<Fate> => this.#pool.fence(key);
    this.#fence = Fence.of(options.life, { address: kind.address, seconds: reconnectSeconds, log, fence });
    if (!this.info.readOnly && !this.info.can.flush) {
      log.log('warn', `${kind.address}: the server cannot make writes durable on request: no flush is offered`);
    }
  }

  override close(): Promise<void> {
    this.#fence?.hurry();
    this.#pool.hurry();
    return super.close();
  }

  protected doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const done = this.#parts('read', offset, into, options);
    this.#witness?.onRead(offset, into, done);
    return done;
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const wait = this.#fence?.wait(options.signal);
    return wait ? wait.then(() => this.#write(offset, from, options)) : this.#write(offset, from, options);
  }

  #write(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const done = this.#parts('write', offset, from, options);
    this.#witness?.onWrite(offset, from.length, from, done);
    return done;
  }

  protected doFlush({ signal }: RequestOptions): Promise<void> {
    const { done } = this.#pool.run({ op: 'flush', offset: 0, length: 0, signal });
    this.#witness?.onFlush(done);
    return done;
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    if (options.fastOnly) throw new BlockError('unsupported', 'zeroing is not faster than writing there');
    await this.#fence?.wait(options.signal);
    const parts = this.#kind.divide('zero', offset, length);
    // Few parts at a time: each may take long, and the range may be the whole disk.
    for (let at = 0; at < parts.length; at += this.#kind.channels) {
      if (options.signal?.aborted) throw abortedError();
      const some = parts.slice(at, at + this.#kind.channels);
      const done = allSettled(some.map((part) => this.#run({ op: 'zero', ...part, signal: options.signal })));
      this.#witness?.onWrite(offset, length, undefined, done);
      await done;
    }
  }

  protected async doClose(): Promise<void> {
    await this.#fence?.close();
    const { quiet } = this.#pool;
    await this.#pool.close();
    await this.#life?.close(quiet);
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
