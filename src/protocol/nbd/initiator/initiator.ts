/**
 * The NBD initiator: an export of any NBD server as a BlockDevice ([NBD] "Request types").
 *
 * Many requests are in flight on one connection. A lost connection is re-established, and its
 * unanswered requests are sent again (session.ts). There may be several connections (group.ts).
 *
 * Not here: the oldstyle protocol.
 */
import type { Buffers } from '../../../base/buffers.js';
import { FarbusError } from '../../../base/errors.js';
import { silent } from '../../../base/log.js';
import { Steps } from '../../../base/steps.js';
import type {
  BlockInfo,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from '../../../block/device.js';
import { abortedError, BlockError } from '../../../block/errors.js';
import { isDecisive } from '../../../block/identity.js';
import type { FenceOptions } from '../../../block/fence.js';
import type { Life } from '../../../block/life.js';
import { ContentWitness } from '../../../block/witness.js';
import type { Dialer, Secure } from '../../../network/stream.js';
import { InitiatorDevice, type InitiatorOptions } from '../../remote/initiator-device.js';
import { NbdCommand, CommandFlag } from '../spec.js';
import { extentsOf } from './extents.js';
import { Gateways, type NbdGateway } from './gateways.js';
import { maxConnections, openSessions, type Sessions } from './group.js';
import { FarMedia } from './media.js';
import { PayloadPool } from './payload-pool.js';
import { fenceFirst } from './predecessor.js';
import { firstConnectionId } from './session-id.js';

/** Options of {@link connectNbd}. */
export interface NbdOptions extends InitiatorOptions {
  /** Name of the export; '' is the server's default export. */
  readonly exportName?: string;
  /** Time limit of one attempt to connect, including the handshake, in seconds. Default 10. */
  readonly connectSeconds?: number;
  /**
   * The connection is dropped if the server owes answers and is silent for this long, in seconds.
   * Default 30; 5 with several gateways.
   */
  readonly stallSeconds?: number | undefined;
  /**
   * Called with the reason if another disk answers after a reconnect. It is refused, and requests
   * wait on for the right one. Must not throw. Default: requests fail at once.
   */
  readonly onOther?: ((why: string) => void) | undefined;
  /** Number of connections, 1 to 16, if the server allows several. Default 1. */
  readonly connections?: number | undefined;
  /**
   * Further gateways of the same export, tried in this order when one is lost (docs/failover.md).
   * Default: none.
   */
  readonly others?: readonly NbdGateway[] | undefined;
  /** Names all gateways, for messages. Default: the addresses of their dialers. */
  readonly address?: string | undefined;
  /**
   * Go to another gateway even if no fence stops the writes that the lost one still has. Default
   * false.
   */
  readonly unfenced?: boolean | undefined;
  /** All writes to the export pass here: no other client writes it. Default false. */
  readonly soleWriter?: boolean | undefined;
  /** Nothing is changed, although the device is not read-only. Default false. */
  readonly looksOnly?: boolean | undefined;
  /**
   * Encrypts each connection to the first gateway. Without it they are not encrypted, and a server
   * that demands TLS is an error.
   */
  readonly secure?: Secure | undefined;
  /**
   * Receives the cookie of each request ([SYS] fig. 8, steps 262 and 264). The server reports its
   * own steps under the same cookie.
   */
  readonly steps?: Steps | undefined;
}

/**
 * Longest range of one request without a payload (trim, write zeroes, block status), in bytes: with
 * 32-bit lengths, and with the 64-bit lengths of extended headers. The limit for zeroes is lower,
 * because a server may have to write them, and a request that takes minutes looks like a hang.
 */
const maxRange = 1 << 30;
const maxWideRange = 2 ** 50;
const maxWideZeroes = 2 ** 33;

/** Default of `stallSeconds` with several gateways, and the least time for an attempt at one. */
const detectSeconds = 5;

/**
 * Connects to an export. Rejects with a FarbusError: unreachable, no such export, refused, not an
 * NBD server.
 */
export async function connectNbd(dialer: Dialer, options: NbdOptions = {}): Promise<NbdInitiator> {
  const { others = [], reconnectSeconds = 60 } = options;
  const { stallSeconds = others.length > 0 ? detectSeconds : 30 } = options;
  // A frozen gateway must not keep the next one waiting.
  const { connectSeconds = others.length > 0 ? Math.min(10, Math.max(detectSeconds, stallSeconds)) : 10 } = options;
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
    looksOnly: options.looksOnly ?? false,
    reconnectSeconds,
    connectSeconds,
    stallSeconds,
    assumeSame: options.assumeSame ?? false,
    onOther: options.onOther,
    life: options.life,
    signal: options.signal,
    log: options.log ?? silent,
    steps: options.steps ?? new Steps(),
    onState: options.onState ?? (() => undefined),
  };
  const { life, exportName, signal, log } = settings;
  const all = [{ dialer, secure: options.secure }, ...others] as const;
  const address = options.address ?? all.map((one) => one.dialer.address).join(' or ');
  const gateways = new Gateways(all, { address, unfenced: options.unfenced ?? false });
  const once = { id: firstConnectionId(), connectSeconds, stallSeconds, pool: new PayloadPool(), signal };
  const fenced = life && (await fenceFirst(gateways, life, exportName, once));
  const sessions = await openSessions(gateways, settings, connections);
  const refusal = gateways.several && sessions.medium !== undefined;
  if (signal?.aborted || refusal) {
    await sessions.close();
    if (signal?.aborted) throw signal.reason;
    throw new FarbusError(`${address}: a drive with a removable medium has one server: name one`);
  }
  if (!sessions.mayMove) {
    const advice = 'x-failover=unfenced goes to another gateway all the same (docs/failover.md)';
    log.log('warn', `${address}: the gateways have no fence: requests wait for the one that is lost; ${advice}`);
  }
  return new NbdInitiator(sessions, life, options.soleWriter ?? false, {
    address,
    seconds: reconnectSeconds,
    log,
    fence: async (key, signal) => (fenced?.has(key) ? 'gone' : sessions.fence(key, signal)),
  });
}

/** Made by {@link connectNbd}. */
export class NbdInitiator extends InitiatorDevice {
  readonly #session: Sessions;
  readonly #media: FarMedia | undefined;
  /** Longest ranges without a payload that the server has not refused so far, in bytes. */
  #range: number;
  #zeroes: number;

  constructor(session: Sessions, life: Life | undefined, soleWriter: boolean, fence: FenceOptions) {
    super(session, life, fence);
    this.#session = session;
    if (session.medium !== undefined) this.#media = new FarMedia(session);
    this.#range = session.wide ? maxWideRange : maxRange;
    this.#zeroes = session.wide ? maxWideZeroes : maxRange;
    if (!isDecisive(session.info.marks ?? {}) && session.medium === undefined) {
      session.witness = new ContentWitness(session.info.blockSize, soleWriter);
    }
  }

  /** The facts of the export. The size may grow at a reconnect. */
  get info(): BlockInfo {
    return this.#session.info;
  }

  override get media(): RemovableMedia | undefined {
    return this.#media;
  }

  override close(): Promise<void> {
    this.#media?.stop();
    return super.close();
  }

  protected sendRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    return this.#send(NbdCommand.read, offset, into, options);
  }

  protected sendWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.#send(NbdCommand.write, offset, from, options, options.fua ? CommandFlag.fua : 0);
  }

  protected sendFlush(options: RequestOptions): Promise<void> {
    const { signal, traceId } = options;
    const medium = this.#meant(options);
    return this.#session.run({ type: NbdCommand.flush, offset: 0, length: 0, signal, traceId, medium }).done;
  }

  #send(type: number, offset: number, buffers: Buffers, options: RequestOptions, flags = 0): Promise<void> {
    const { signal, traceId } = options;
    const [length, medium] = [buffers.length, this.#meant(options)];
    return this.#session.run({ type, flags, offset, length, buffers, signal, traceId, medium }).done;
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.#inRanges(NbdCommand.trim, options.fua ? CommandFlag.fua : 0, offset, length, options);
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
    return this.#inRanges(NbdCommand.writeZeroes, flags, offset, length, options);
  }

  protected override async doExtents(
    offset: number,
    length: number,
    options: RequestOptions,
  ): Promise<readonly Extent[]> {
    const asked = Math.min(length, this.#session.wide ? maxWideRange : maxRange);
    const { signal, traceId } = options;
    const medium = this.#meant(options);
    const request = this.#session.run({ type: NbdCommand.blockStatus, offset, length: asked, signal, traceId, medium });
    await request.done;
    return extentsOf(request.status!, offset, asked, this.info.blockSize);
  }

  /** The medium that a request is meant for, if the export's medium is removable. */
  #meant({ medium }: RequestOptions): string | undefined {
    return medium ?? this.#media?.first;
  }

  /**
   * Runs a request without a payload, split into ranges that the server accepts. A server may
   * refuse ranges that are longer than its maximum payload.
   */
  async #inRanges(type: number, flags: number, offset: number, length: number, options: RequestOptions): Promise<void> {
    const { signal, traceId } = options;
    const wait = this.fenced(signal);
    if (wait) await wait;
    const medium = this.#meant(options);
    for (let done = 0; done < length;) {
      const most = type === NbdCommand.trim || flags & CommandFlag.fastZero ? this.#range : this.#zeroes;
      const part = Math.min(most, length - done);
      if (signal?.aborted) throw abortedError();
      try {
        const request = this.#session.run({
          type,
          flags,
          offset: offset + done,
          length: part,
          signal,
          traceId,
          medium,
        });
        this.#session.witness?.onWrite(offset + done, part, undefined, request.done);
        await request.done;
        done += part;
      } catch (error) {
        const tooLong = error instanceof BlockError && error.kind === 'range' && part > this.info.maxTransfer;
        if (!tooLong) throw error;
        // Try 32-bit lengths first; the server may only refuse 64-bit ones. Then use the maximum
        // payload ([NBD] "Size constraints").
        this.#range = part > maxRange ? maxRange : this.info.maxTransfer;
        this.#zeroes = Math.min(this.#zeroes, this.#range);
      }
    }
  }
}
