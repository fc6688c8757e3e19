/**
 * The disk of an initiator as a BlockDevice, as far as it is the same for all protocols: writes
 * wait for the fence of earlier processes (block/fence.ts), the content is watched so that the disk
 * can be recognised after a reconnect (block/witness.ts), and closing has one order.
 *
 * Not here: reconnection (reconnection.ts); sending, which each protocol's way does.
 */
import type { Buffers } from '../../base/buffers.js';
import type { Logger } from '../../base/log.js';
import { BlockBase } from '../../block/base.js';
import type { RequestOptions, WriteOptions } from '../../block/device.js';
import { Fence, type FenceOptions } from '../../block/fence.js';
import type { Life } from '../../block/life.js';
import type { ContentWitness } from '../../block/witness.js';
import type { RemoteState } from './reconnection.js';

/** Options that all initiators have. */
export interface InitiatorOptions {
  /** Refuses writes, even if the server allows them. Default false. */
  readonly readOnly?: boolean | undefined;
  /**
   * How long requests wait for a lost server to return, in seconds. 0: do not reconnect. Default
   * 60.
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
  /** Receives warnings, and lost and restored connections. Default: nothing is logged. */
  readonly log?: Logger | undefined;
  /** Called at every change of the connection's state, with a line of detail. Must not throw. */
  readonly onState?: ((state: RemoteState, detail: string) => void) | undefined;
}

/** The way to the disk on its server: a session, a pool of channels, a link. */
export interface Way {
  /** Watches the content; undefined if marks recognise the disk, or any disk is accepted. */
  readonly witness: ContentWitness | undefined;
  /** True if, as far as is known, no request that was sent can still change the disk. */
  readonly quiet: boolean;
  /** The way will be closed soon: requests fail unless they are answered within a short time. */
  hurry(): void;
  /** Closes without a flush. */
  close(): void | Promise<void>;
}

export abstract class InitiatorDevice extends BlockBase {
  readonly #way: Way;
  readonly #life: Life | undefined;
  readonly #fence: Fence | undefined;

  constructor(way: Way, life: Life | undefined, fence: FenceOptions) {
    super();
    this.#way = way;
    this.#life = life;
    this.#fence = Fence.of(life, fence);
  }

  protected abstract sendRead(offset: number, into: Buffers, options: RequestOptions): Promise<void>;
  protected abstract sendWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void>;
  protected abstract sendFlush(options: RequestOptions): Promise<void>;

  override close(): Promise<void> {
    this.#fence?.hurry();
    this.#way.hurry();
    return super.close();
  }

  protected doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const done = this.sendRead(offset, into, options);
    this.#way.witness?.onRead(offset, into, done);
    return done;
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const wait = this.fenced(options.signal);
    return wait ? wait.then(() => this.#write(offset, from, options)) : this.#write(offset, from, options);
  }

  #write(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const done = this.sendWrite(offset, from, options);
    this.#way.witness?.onWrite(offset, from.length, from, done);
    return done;
  }

  protected doFlush(options: RequestOptions): Promise<void> {
    const done = this.sendFlush(options);
    this.#way.witness?.onFlush(done);
    return done;
  }

  /** A promise that a change of the disk must await, or undefined if it may be sent now. */
  protected fenced(signal: AbortSignal | undefined): Promise<void> | undefined {
    return this.#fence?.wait(signal);
  }

  protected async doClose(): Promise<void> {
    await this.#fence?.close();
    const { quiet } = this.#way;
    await this.#way.close();
    await this.#life?.close(quiet);
  }
}
