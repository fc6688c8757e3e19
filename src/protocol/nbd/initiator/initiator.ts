/**
 * The NBD initiator: an export of any NBD server as a BlockDevice. Many requests are under way at once on one connection;
 * a lost connection is re-established and what was under way is run again (session.ts). There may be several (group.ts).
 * Source: [NBD] "Request types". No oldstyle.
 */
import type { Buffers } from '../../../base/buffers.js';
import { FarbusError } from '../../../base/errors.js';
import { silent, type Logger } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import { BlockBase } from '../../../block/base.js';
import type {
  BlockInfo,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from '../../../block/device.js';
import { BlockError } from '../../../block/errors.js';
import { isDecisive } from '../../../block/identity.js';
import { Fence } from '../../../block/fence.js';
import type { Life } from '../../../block/life.js';
import { ContentWitness } from '../../../block/witness.js';
import type { Dialer, Secure } from '../../../network/stream.js';
import { Command, CommandFlag } from '../spec.js';
import { extentsOf } from './extents.js';
import { maxConnections, openSessions, type Sessions } from './group.js';
import { FarMedia } from './media.js';
import { PayloadPool } from './payload-pool.js';
import { fenceFirst } from './predecessor.js';
import { firstConnectionId, type NbdState } from './session.js';

export interface NbdOptions {
  /** Which of the server's exports; '' is its default one. */
  readonly exportName?: string;
  /** Take no writes, whatever the server allows. Default false. */
  readonly readOnly?: boolean;
  /** How long requests wait for a lost connection to come back, in seconds; 0: it is not re-established. Default 60. */
  readonly reconnectSeconds?: number;
  /** Limit of one attempt to connect, handshake included, in seconds. Default 10. */
  readonly connectSeconds?: number;
  /** Silence of a server that owes answers after which its connection is given up, in seconds. Default 30. */
  readonly stallSeconds?: number;
  /** Connections at a time, where the server says that there may be several; 1 to 16. Default 1. */
  readonly connections?: number | undefined;
  /** Encrypts each connection; without it none is, and a server that demands TLS is refused. */
  readonly secure?: Secure | undefined;
  /** Take a disk that cannot be recognised after a reconnect for the same one. Default false. */
  readonly assumeSame?: boolean | undefined;
  /** Keeps what the next process needs to fence this one, and has what this one needs. Default: nothing is fenced. */
  readonly life?: Life | undefined;
  readonly log?: Logger;
  /** Is told the cookie of each request ([SYS] fig. 8, steps 262 and 264), by which the server tells its own steps. */
  readonly steps?: Steps | undefined;
  /** Told of every change of the connection's state, with a line of detail. It must not throw. */
  readonly onState?: (state: NbdState, detail: string) => void;
}

/**
 * Longest range of one request without a payload (trim, write zeroes, block status), in bytes: with 32-bit lengths, and with
 * those of extended headers. Zeroes may have to be written one by one, and a request that takes minutes looks like a hang.
 */
const maxRange = 1 << 30;
const maxWideRange = 2 ** 50;
const maxWideZeroes = 2 ** 33;

/**
 * Connects to an export. Rejects with a FarbusError: unreachable, no such export, refused, no NBD server.
 */
export async function connectNbd(dialer: Dialer, options: NbdOptions = {}): Promise<NbdInitiator> {
  const { reconnectSeconds = 60, connectSeconds = 10, stallSeconds = 30 } = options;
  if (!(reconnectSeconds >= 0) || !(connectSeconds > 0) || !(stallSeconds > 0)) {
    throw new FarbusError('times of a connection are numbers of seconds: above 0, and for reconnecting 0 or more');
  }
  const { connections = 1 } = options;
  if (!(Number.isInteger(connections) && connections >= 1 && connections <= maxConnections)) {
    throw new FarbusError(`the number of connections is 1 to ${maxConnections}`);
  }
  const settings = {
    exportName: options.exportName ?? '',
    readOnly: options.readOnly ?? false,
    // Timers count up to 2^31 ms.
    reconnectSeconds: Math.min(reconnectSeconds, 2_000_000),
    connectSeconds,
    stallSeconds,
    secure: options.secure,
    assumeSame: options.assumeSame ?? false,
    life: options.life,
    log: options.log ?? silent,
    steps: options.steps ?? new Steps(),
    onState: options.onState ?? (() => undefined),
  };
  const { life, exportName, secure } = settings;
  const once = { id: firstConnectionId(), connectSeconds, stallSeconds, pool: new PayloadPool(), secure };
  const fenced = life && (await fenceFirst(dialer, life, exportName, once));
  const sessions = await openSessions(dialer, settings, connections);
  const fence = Fence.of(life, {
    address: dialer.address,
    seconds: reconnectSeconds,
    log: settings.log,
    fence: async (mark, signal) => (fenced?.has(mark) ? 'gone' : sessions.fence(mark, signal)),
  });
  return new NbdInitiator(sessions, life, fence);
}

/** Made by {@link connectNbd}. */
export class NbdInitiator extends BlockBase {
  readonly #session: Sessions;
  readonly #media: FarMedia | undefined;
  readonly #life: Life | undefined;
  readonly #fence: Fence | undefined;
  /** Longest ranges without a payload that the server is thought to take. */
  #range: number;
  #zeroes: number;

  constructor(session: Sessions, life?: Life, fence?: Fence) {
    super();
    this.#session = session;
    this.#life = life;
    this.#fence = fence;
    if (session.medium !== undefined) this.#media = new FarMedia(session);
    this.#range = session.wide ? maxWideRange : maxRange;
    this.#zeroes = session.wide ? maxWideZeroes : maxRange;
    if (!isDecisive(session.info.marks ?? {}) && session.medium === undefined) {
      session.witness = new ContentWitness(session.info.blockSize);
    }
  }

  /** Its size is larger after a reconnect to an export that has grown. */
  get info(): BlockInfo {
    return this.#session.info;
  }

  override get media(): RemovableMedia | undefined {
    return this.#media;
  }

  override close(): Promise<void> {
    this.#media?.stop();
    this.#fence?.hurry();
    this.#session.hurry();
    return super.close();
  }

  protected doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const { signal, tag } = options;
    const medium = this.#meant(options);
    const [length, buffers] = [into.length, into];
    const { done } = this.#session.run({ type: Command.read, offset, length, buffers, signal, tag, medium });
    this.#session.witness?.onRead(offset, into, done);
    return done;
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const wait = this.#fence?.wait(options.signal);
    return wait ? wait.then(() => this.#write(offset, from, options)) : this.#write(offset, from, options);
  }

  #write(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const { signal, fua, tag } = options;
    const flags = fua ? CommandFlag.fua : 0;
    const [length, medium] = [from.length, this.#meant(options)];
    const { done } = this.#session.run({
      type: Command.write,
      flags,
      offset,
      length,
      buffers: from,
      signal,
      tag,
      medium,
    });
    this.#session.witness?.onWrite(offset, length, from, done);
    return done;
  }

  protected doFlush(options: RequestOptions): Promise<void> {
    const { signal, tag } = options;
    const medium = this.#meant(options);
    const { done } = this.#session.run({ type: Command.flush, offset: 0, length: 0, signal, tag, medium });
    this.#session.witness?.onFlush(done);
    return done;
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.#inRanges(Command.trim, options.fua ? CommandFlag.fua : 0, offset, length, options);
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    let flags = options.fua ? CommandFlag.fua : 0;
    if (options.noHole) flags |= CommandFlag.noHole;
    if (options.fastOnly) {
      if (!this.#session.fastZero) {
        return Promise.reject(new BlockError('unsupported', 'the server does not say whether zeroing is fast'));
      }
      flags |= CommandFlag.fastZero;
    }
    return this.#inRanges(Command.writeZeroes, flags, offset, length, options);
  }

  protected override async doExtents(
    offset: number,
    length: number,
    options: RequestOptions,
  ): Promise<readonly Extent[]> {
    const asked = Math.min(length, this.#session.wide ? maxWideRange : maxRange);
    const { signal, tag } = options;
    const medium = this.#meant(options);
    const request = this.#session.run({ type: Command.blockStatus, offset, length: asked, signal, tag, medium });
    await request.done;
    return extentsOf(request.status!, offset, asked, this.info.blockSize);
  }

  protected async doClose(): Promise<void> {
    await this.#fence?.close();
    const { quiet } = this.#session;
    await this.#session.close();
    await this.#life?.close(quiet);
  }

  /** The medium that a request is meant for, where the export's can be removed. */
  #meant({ medium }: RequestOptions): string | undefined {
    return medium ?? this.#media?.first;
  }

  /**
   * Runs a request without a payload in ranges that the server takes: it may refuse those longer than its payloads.
   */
  async #inRanges(type: number, flags: number, offset: number, length: number, options: RequestOptions): Promise<void> {
    const { signal, tag } = options;
    if (this.#fence) await this.#fence.wait(signal);
    const medium = this.#meant(options);
    for (let done = 0; done < length;) {
      const most = type === Command.trim || flags & CommandFlag.fastZero ? this.#range : this.#zeroes;
      const part = Math.min(most, length - done);
      if (signal?.aborted) throw new BlockError('aborted', 'given up');
      try {
        const request = this.#session.run({ type, flags, offset: offset + done, length: part, signal, tag, medium });
        this.#session.witness?.onWrite(offset + done, part, undefined, request.done);
        await request.done;
        done += part;
      } catch (error) {
        const tooLong = error instanceof BlockError && error.kind === 'range' && part > this.info.maxTransfer;
        if (!tooLong) throw error;
        // Perhaps it minds 64 bits only; else none that is longer than a payload ([NBD] "Size constraints").
        this.#range = part > maxRange ? maxRange : this.info.maxTransfer;
        this.#zeroes = Math.min(this.#zeroes, this.#range);
      }
    }
  }
}
