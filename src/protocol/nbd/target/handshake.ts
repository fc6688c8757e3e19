/**
 * The handshake of one connection ([NBD] "Handshake", "Fixed newstyle negotiation"): the greeting,
 * then options until one of them enters transmission. The bytes may arrive in pieces of any size.
 *
 * NBD_OPT_STARTTLS ends this handshake. Over TLS a new one begins, which inherits only the client's
 * flags ([NBD] "TLS support").
 *
 * Not here: the switch to TLS (securing.ts), formats of options (options.ts), time limits
 * (handshake-clock.ts).
 */
import { HandshakeFlag, Info, NBD_MAGIC, NBD_OPTION_MAGIC, Option, OptionReply, type HeaderStyle } from '../spec.js';
import { encodeText, getBigU64, getU32, putBigU64, putU16 } from '../wire.js';
import type { Agreement } from './check.js';
import {
  chooseContexts,
  chosenIds,
  contextNames,
  listedContexts,
  noContexts,
  type ChosenContexts,
} from './contexts.js';
import { blockSizes, transmissionFlags, type ExportDirectory, type TargetExport } from './export.js';
import {
  blockSizeInfo,
  exportInfo,
  lengthAndString,
  metaContext,
  optionReply,
  parseInfo,
  parseMeta,
  parseName,
  textInfo,
  type InfoOption,
  type MetaOption,
} from './options.js';
import type { HandshakeClock } from './handshake-clock.js';
import type { SessionRegistry } from './sessions.js';
import type { Stage, StageHost } from './stage.js';

/** The connection, as the handshake sees it. */
export interface HandshakeHost extends StageHost {
  readonly exports: ExportDirectory;
  /** True if the connection is encrypted. */
  readonly secured: boolean;
  readonly tls: TlsMode;
  /** Measures the time that the handshake takes. */
  readonly clock: HandshakeClock;
  /**
   * The client was told that it may start TLS.
   * @param flags the client's flags, for the next handshake
   */
  secure(flags: number): void;
  /** Makes this connection the session's current one; see {@link SessionRegistry.join}. */
  join(registry: SessionRegistry, id: string): Promise<boolean>;
  /** Ends the connection's membership in its session, if it has one. */
  leave(): void;
  /** The handshake has succeeded: starts transmission. */
  enter(of: TargetExport, agreed: Agreement, contexts: ChosenContexts): void;
}

/**
 * The use of TLS ([NBD] "Server-side requirements"): 'off' is NOTLS. 'on' is SELECTIVETLS: the
 * client chooses, except for exports that are TLS-only. 'require' is FORCEDTLS.
 */
export type TlsMode = 'off' | 'on' | 'require';

const optionHeaderSize = 16;
/** Longest data of an option that is skipped, in bytes. Longer data ends the connection. */
const maxSkip = 1 << 20;
/** Longest buffer for option data that is kept for the next option, in bytes. */
const keptLength = 1024;
/** After the server has begun to shut down, the client has this long to close by itself, in ms. */
const drainMs = 1000;

export class Handshake implements Stage {
  readonly #host: HandshakeHost;
  #buffer = new Uint8Array(optionHeaderSize);
  #have = 0;
  /** Number of bytes until the next step: to put into the buffer, or to skip. */
  #need = 4;
  /**
   * The kind of bytes that come next. 'over': the handshake takes no more bytes; they are for the
   * next phase.
   */
  #expected: 'flags' | 'option' | 'data' | 'skip' | 'over' = 'flags';
  #option = 0;
  #options = 0;
  #flags = 0;
  #style: HeaderStyle = 'simple';
  #contexts = noContexts;
  /** The export for which the contexts were selected, and its medium at that time. */
  #contextsOf: TargetExport | undefined;
  #medium = '';
  /** True while waiting for a session's earlier connections to end, or for an export's size. */
  #working = false;
  /** True if the session's earlier connections did not end in time. */
  #refused = false;
  #draining = false;
  /** Timer of the shutdown. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(host: HandshakeHost) {
    this.#host = host;
  }

  /**
   * Continues over TLS with a client that has been greeted before.
   * @param flags the client's flags from before TLS
   */
  resume(flags: number): void {
    this.#flags = flags;
    this.#expect('option', optionHeaderSize);
  }

  /** Sends the greeting. */
  start(): void {
    const piece = this.#host.arena.take(18);
    const { bytes } = piece.slab;
    putBigU64(bytes, piece.start, NBD_MAGIC);
    putBigU64(bytes, piece.start + 8, NBD_OPTION_MAGIC);
    putU16(bytes, piece.start + 16, HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes);
    this.#host.outbox.add(piece, false);
  }

  get waiting(): boolean {
    return this.#expected === 'over' || this.#working || this.#host.outbox.unsent > 0;
  }

  receive(chunk: Uint8Array, at: number): number {
    const end = chunk.length;
    // The step that enters transmission leaves the rest of the chunk to the next phase.
    while (at < end && !this.waiting) {
      const length = Math.min(this.#need - this.#have, end - at);
      if (this.#expected !== 'skip') this.#keep(chunk.subarray(at, at + length));
      this.#have += length;
      at += length;
      if (this.#have === this.#need) this.#step();
    }
    return at;
  }

  sent(): void {
    if (!this.waiting) this.#host.wake();
  }

  drain(): void {
    this.#draining = true;
    this.#timer = setTimeout(() => this.#host.end(), drainMs);
  }

  close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#expected = 'over';
    return Promise.resolve();
  }

  #expect(what: 'option' | 'data' | 'skip', need: number): void {
    this.#expected = what;
    this.#need = need;
    this.#have = 0;
  }

  /**
   * Keeps received bytes. The buffer grows with the bytes that arrive, not with the announced
   * length. It is dropped after a long option.
   */
  #keep(bytes: Uint8Array): void {
    const have = this.#have + bytes.length;
    if (have > this.#buffer.length) {
      const grown = new Uint8Array(Math.min(this.#need, Math.max(have, 2 * this.#buffer.length)));
      grown.set(this.#buffer.subarray(0, this.#have));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#have);
  }

  #step(): void {
    switch (this.#expected) {
      case 'flags':
        return this.#clientFlags(getU32(this.#buffer, 0));
      case 'option':
        return this.#optionHeader();
      case 'data': {
        const data = this.#buffer.subarray(0, this.#need);
        if (this.#buffer.length > keptLength) this.#buffer = new Uint8Array(optionHeaderSize);
        // Set this first: #perform may change the state, or wait for the server's own work.
        this.#expect('option', optionHeaderSize);
        return this.#perform(data);
      }
      case 'skip':
        this.#expect('option', optionHeaderSize);
        return this.#error(OptionReply.errTooBig, 'the data of this option is too long');
      case 'over':
    }
  }

  #clientFlags(flags: number): void {
    const known = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
    if ((flags & ~known) !== 0) return this.#host.fail('it set handshake flags that were not offered');
    this.#flags = flags;
    if (this.#mustSecure && (flags & HandshakeFlag.fixedNewstyle) === 0) {
      // [NBD] "Server-side requirements": such a client could not even receive the error reply.
      return this.#host.fail('it does not know TLS, which is required here');
    }
    this.#expect('option', optionHeaderSize);
  }

  #optionHeader(): void {
    const { limits } = this.#host;
    if (getBigU64(this.#buffer, 0) !== NBD_OPTION_MAGIC) return this.#host.fail('it sent something that is no option');
    if (++this.#options > limits.maxOptions) return this.#host.fail('it sent too many options');
    this.#option = getU32(this.#buffer, 8);
    const length = getU32(this.#buffer, 12);
    if (length > maxSkip) return this.#host.fail('it sent an oversized option');
    if (length > limits.maxOptionLength) return this.#expect('skip', length);
    if (length > 0) return this.#expect('data', length);
    this.#expect('option', optionHeaderSize);
    this.#perform(new Uint8Array(0));
  }

  #perform(data: Uint8Array): void {
    const option = this.#option;
    if (option === Option.abort) {
      this.#reply(OptionReply.ack);
      this.#expected = 'over';
      return this.#host.end();
    }
    if (this.#mustSecure && option !== Option.starttls) {
      if (option === Option.exportName) return this.#host.fail('it did not ask for TLS, which is required here');
      return this.#error(OptionReply.errTlsRequired, 'this server is reached over TLS only');
    }
    if (option === Option.exportName) return this.#exportName(data);
    if (this.#draining) return this.#error(OptionReply.errShutdown, 'the server is being shut down');
    switch (option) {
      case Option.list:
        return data.length > 0 ? this.#noData() : this.#list();
      case Option.structuredReply:
        if (data.length > 0) return this.#noData();
        if (this.#style === 'extended') {
          return this.#error(OptionReply.errExtendedHeadersRequired, 'extended headers have been agreed on already');
        }
        this.#style = 'structured';
        return this.#reply(OptionReply.ack);
      case Option.extendedHeaders:
        if (data.length > 0) return this.#noData();
        this.#style = 'extended';
        return this.#reply(OptionReply.ack);
      case Option.info:
      case Option.go:
        return this.#info(data);
      case Option.listMetaContext:
      case Option.setMetaContext:
        return this.#meta(data);
      case Option.starttls:
        return this.#startTls(data);
      default:
        return this.#error(OptionReply.errUnsupported, 'this option is not known');
    }
  }

  /** True if the client must start TLS before anything else: [NBD] "FORCEDTLS mode". */
  get #mustSecure(): boolean {
    return this.#host.tls === 'require' && !this.#host.secured;
  }

  #startTls(data: Uint8Array): void {
    const { tls, secured } = this.#host;
    if (tls === 'off') return this.#error(OptionReply.errUnsupported, 'TLS is not supported');
    if (data.length > 0) return this.#noData();
    if (secured) return this.#error(OptionReply.errInvalid, 'this is TLS already');
    if ((this.#flags & HandshakeFlag.fixedNewstyle) === 0) {
      return this.#error(OptionReply.errInvalid, 'TLS is for fixed newstyle');
    }
    this.#reply(OptionReply.ack);
    clearTimeout(this.#timer);
    this.#expected = 'over';
    // [NBD] NBD_OPT_STARTTLS: whatever was negotiated before it is void.
    this.#host.leave();
    this.#host.secure(this.#flags);
  }

  /** Takes no options until {@link #worked}: the server works on the current one. */
  #work(): void {
    this.#working = true;
    this.#host.clock.turn('server');
  }

  #worked(): void {
    this.#working = false;
    this.#host.clock.turn('client');
  }

  /**
   * Calls `next` when the size of the export's medium is known; synchronously if it cannot change.
   */
  #looked({ device }: TargetExport, next: () => void): void {
    if (!device.refresh) return next();
    this.#work();
    // If the refresh fails, the last known size applies.
    const looked = device.refresh().catch(() => undefined);
    void looked.then(() => {
      if (this.#expected === 'over') return;
      this.#worked();
      next();
      // Wake even if the reply has not been sent yet: transmission may have begun with it and does
      // not wait for that.
      this.#host.wake();
    });
  }

  /** Handles NBD_OPT_EXPORT_NAME ([NBD]), which has no error reply. */
  #exportName(data: Uint8Array): void {
    const name = parseName(data);
    const find = (): TargetExport | undefined => (name === undefined ? undefined : this.#host.exports.find(name));
    const found = find();
    if (found) this.#looked(found, () => this.#enterByName(find()));
    else this.#enterByName(undefined);
  }

  #enterByName(found: TargetExport | undefined): void {
    if (found && this.#hidden(found)) return this.#host.fail('it did not ask for TLS, which this export requires');
    if (!found || this.#refused || this.#draining) return this.#host.fail('it asked for an export that it cannot have');
    if (this.#style === 'extended') {
      return this.#host.fail('it used NBD_OPT_EXPORT_NAME after extended headers, which is not allowed');
    }
    const info = exportInfo(found, this.#style, false).subarray(2);
    const piece = this.#host.arena.take(info.length + (this.#flags & HandshakeFlag.noZeroes ? 0 : 124));
    piece.slab.bytes.fill(0, piece.start, piece.end).set(info, piece.start);
    this.#enter(found, () => this.#host.outbox.add(piece, false));
  }

  #list(): void {
    for (const one of this.#host.exports.list()) {
      if (this.#hidden(one)) continue;
      this.#reply(OptionReply.server, lengthAndString(one.name), encodeText(one.description, 4096));
    }
    this.#reply(OptionReply.ack);
  }

  #info(data: Uint8Array): void {
    const wanted = parseInfo(data);
    if (!wanted) return this.#malformed();
    const found = this.#find(wanted.name);
    if (!found) return;
    if (this.#refused) return this.#stillBusy();
    this.#looked(found, () => {
      // The export may have been removed or replaced meanwhile: look it up again.
      const still = this.#find(wanted.name);
      if (still) this.#tell(still, wanted);
    });
  }

  #tell(found: TargetExport, { requests }: InfoOption): void {
    this.#reply(OptionReply.info, exportInfo(found, this.#style, this.#hasContexts(found)));
    if (requests.has(Info.name)) this.#reply(OptionReply.info, textInfo(Info.name, found.name));
    if (requests.has(Info.description) && found.description !== '') {
      this.#reply(OptionReply.info, textInfo(Info.description, found.description));
    }
    if (requests.has(Info.blockSize)) this.#reply(OptionReply.info, blockSizeInfo(found));
    if (this.#option === Option.go) this.#enter(found, () => this.#reply(OptionReply.ack));
    else this.#reply(OptionReply.ack);
  }

  #meta(data: Uint8Array): void {
    const setting = this.#option === Option.setMetaContext;
    if (setting) {
      this.#contexts = noContexts;
      this.#contextsOf = undefined;
    }
    if (this.#style === 'simple') {
      return this.#error(OptionReply.errInvalid, 'structured replies or extended headers must be negotiated first');
    }
    const wanted = parseMeta(data);
    if (!wanted) return this.#malformed();
    const found = this.#find(wanted.name);
    if (!found) return;
    if (setting) this.#setContexts(found, wanted);
    else this.#listContexts(found, wanted);
  }

  #listContexts({ device }: TargetExport, { queries }: MetaOption): void {
    for (const name of listedContexts(queries, device.media !== undefined))
      this.#reply(OptionReply.metaContext, metaContext(0, name));
    this.#reply(OptionReply.ack);
  }

  #setContexts(of: TargetExport, { queries }: MetaOption): void {
    const { chosen, session } = chooseContexts(queries, of.device.media !== undefined);
    this.#contextsOf = of;
    this.#contexts = chosen;
    if (session === undefined) return this.#contextsSet(of);
    this.#work();
    void this.#host.join(of.sessions, session).then((joined) => {
      if (this.#expected === 'over') return;
      this.#worked();
      this.#refused = !joined;
      if (joined) this.#contextsSet(of, session);
      else this.#stillBusy();
      // Wake even if the reply has not been sent yet: transmission may have begun with it and does
      // not wait for that.
      this.#host.wake();
    });
  }

  #contextsSet(of: TargetExport, session?: string): void {
    this.#medium = of.device.media?.medium ?? '';
    const facts = { session, state: of.sessions.state, medium: this.#medium, info: of.device.info };
    for (const [id, name] of contextNames(this.#contexts, facts)) {
      this.#reply(OptionReply.metaContext, metaContext(id, name));
    }
    this.#reply(OptionReply.ack);
  }

  /**
   * True if the export may be asked for block status. NBD_OPT_INFO: contexts can still be selected.
   * Otherwise: contexts were selected for this export.
   */
  #hasContexts(of: TargetExport): boolean {
    if (this.#option === Option.info) return true;
    return this.#contextsOf === of && chosenIds(this.#contexts).length > 0;
  }

  #enter(of: TargetExport, answer: () => void): void {
    const contexts = this.#contextsOf === of ? this.#contexts : noContexts;
    if (contexts.session === undefined) this.#host.leave();
    clearTimeout(this.#timer);
    this.#expected = 'over';
    const { maximum } = blockSizes(of);
    const agreed: Agreement = {
      flags: transmissionFlags(of, this.#style, this.#hasContexts(of)),
      size: of.device.info.size,
      minimum: of.device.info.blockSize,
      maximum,
      style: this.#style,
      contexts: this.#hasContexts(of),
      // If the client selected the media context, use the medium that it was told of, not one that
      // was inserted since.
      medium: contexts.media === undefined ? of.device.media?.medium : this.#medium,
    };
    answer();
    this.#host.enter(of, agreed, contexts);
  }

  /** Finds an export by name. Undefined after an error reply has been sent. */
  #find(name: string): TargetExport | undefined {
    const { exports } = this.#host;
    const found = exports.find(name);
    if (found && this.#hidden(found)) {
      // [NBD] "SELECTIVETLS mode": NBD_REP_ERR_TLS_REQD may only answer NBD_OPT_INFO and
      // NBD_OPT_GO.
      const tells = this.#option === Option.info || this.#option === Option.go;
      const type = tells ? OptionReply.errTlsRequired : OptionReply.errPolicy;
      this.#error(type, 'this export is reached over TLS only');
      return undefined;
    }
    if (found) return found;
    const refusal = exports.refusal?.(name);
    if (refusal !== undefined) this.#error(OptionReply.errPolicy, refusal);
    else this.#error(OptionReply.errUnknown, `there is no export ${JSON.stringify(name.slice(0, 256))} here`);
    return undefined;
  }

  /** True if the export is for TLS only and this connection is not encrypted. */
  #hidden(of: TargetExport): boolean {
    return of.tlsOnly === true && !this.#host.secured;
  }

  #stillBusy(): void {
    this.#error(
      OptionReply.errShutdown,
      "the session's earlier connection still has requests in flight: try again later",
    );
  }

  #malformed(): void {
    this.#error(OptionReply.errInvalid, 'the data of this option is malformed');
  }

  #noData(): void {
    this.#error(OptionReply.errInvalid, 'this option takes no data');
  }

  #error(type: number, text: string): void {
    this.#reply(type, encodeText(text, 1024));
  }

  #reply(type: number, ...parts: Uint8Array[]): void {
    // Lists are collected and go out in one write, with the final reply that follows immediately.
    const more = type === OptionReply.server || type === OptionReply.info || type === OptionReply.metaContext;
    this.#host.outbox.add(optionReply(this.#host.arena, this.#option, type, ...parts), more);
  }
}
