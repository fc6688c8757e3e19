/**
 * The handshake of one connection ([NBD] "Handshake", "Fixed newstyle negotiation"): the greeting,
 * then options until one of them enters transmission.
 *
 * NBD_OPT_STARTTLS ends this handshake. Over TLS a new one begins, which inherits only the client's
 * flags ([NBD] "TLS support").
 *
 * Not here: the switch to TLS (securing.ts), the bytes of options (option-reader.ts,
 * options.ts), time limits (handshake-clock.ts).
 */
import {
  HandshakeFlag,
  NBD_MAGIC,
  NBD_OPTION_MAGIC,
  Option,
  OptionReply,
  TransmissionFlag,
  type HeaderStyle,
} from '../spec.js';
import { messageOf } from '../../../base/errors.js';
import { putBigU64, putU16 } from '../../../base/big-endian.js';
import { encodeText } from '../text.js';
import type { Agreement } from './check.js';
import { ContextChoice } from './context-choice.js';
import { listedContexts } from './contexts.js';
import { blockSizes, isReadOnly, transmissionFlags, type TargetExport } from './export.js';
import {
  exportInfo,
  infosOf,
  lengthAndString,
  metaContext,
  optionReply,
  parseInfo,
  parseMeta,
  parseName,
  type InfoOption,
  type MetaOption,
} from './options.js';
import { OptionReader, type OptionSink } from './option-reader.js';
import type { HandshakeHost, Stage } from './stage.js';

/** After the server has begun to shut down, the client has this long to close by itself, in ms. */
const drainMs = 1000;

export class Handshake implements Stage, OptionSink {
  readonly #host: HandshakeHost;
  readonly #reader: OptionReader;
  #option = 0;
  #flags = 0;
  #style: HeaderStyle = 'simple';
  readonly #contexts = new ContextChoice();
  /** True while waiting for a session's earlier connections to end, or for an export's size. */
  #working = false;
  /** True if the session's earlier connections did not end in time. */
  #refused = false;
  #draining = false;
  /** Timer of the shutdown. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(host: HandshakeHost) {
    this.#host = host;
    this.#reader = new OptionReader(this, host.limits);
  }

  /**
   * Continues over TLS with a client that has been greeted before.
   * @param flags the client's flags from before TLS
   */
  resume(flags: number): void {
    this.#flags = flags;
    this.#reader.expectOption();
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
    return this.#reader.over || this.#working || this.#host.outbox.unsent > 0;
  }

  receive(chunk: Uint8Array, at: number): number {
    return this.#reader.receive(chunk, at);
  }

  sent(): void {
    if (!this.waiting) this.#host.wake();
  }

  drain(): void {
    this.#draining = true;
    this.#timer = setTimeout(() => this.#host.end(), drainMs);
  }

  close(): Promise<void> {
    this.#stop();
    return Promise.resolve();
  }

  /** Takes no more bytes: another phase follows, or the connection ends. */
  #stop(): void {
    clearTimeout(this.#timer);
    this.#reader.stop();
  }

  broken(reason: string): void {
    this.#host.fail(reason);
  }

  flags(flags: number): void {
    const known = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
    if ((flags & ~known) !== 0) return this.#host.fail('it set handshake flags that were not offered');
    this.#flags = flags;
    if (this.#mustSecure && (flags & HandshakeFlag.fixedNewstyle) === 0) {
      // [NBD] "Server-side requirements": such a client could not even receive the error reply.
      return this.#host.fail('it does not know TLS, which is required here');
    }
    this.#reader.expectOption();
  }

  tooLong(option: number): void {
    this.#option = option;
    this.#error(OptionReply.errTooBig, 'the data of this option is too long');
  }

  option(option: number, data: Uint8Array): void {
    this.#option = option;
    if (option === Option.abort) {
      this.#reply(OptionReply.ack);
      this.#reader.stop();
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
    this.#stop();
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
   * @param enters true if the client enters the export then: it must be ready
   */
  #looked(of: TargetExport, enters: boolean, next: (failure?: unknown) => void): void {
    const { device, admit } = of;
    const admits = enters && admit !== undefined;
    if (!device.refresh && !admits) return next();
    this.#work();
    const writes = !isReadOnly(of) && !this.#contexts.reads(of);
    // If the refresh fails, the last known size applies.
    const looked = (admits ? admit(writes) : Promise.resolve()).then(() => device.refresh?.().catch(() => undefined));
    const then = (failure?: unknown): void => {
      if (this.#reader.over) return;
      this.#worked();
      next(failure);
      // Wake even if the reply has not been sent yet: transmission may have begun with it and does
      // not wait for that.
      this.#host.wake();
    };
    looked.then(() => then(), then);
  }

  /** Handles NBD_OPT_EXPORT_NAME ([NBD]), which has no error reply. */
  #exportName(data: Uint8Array): void {
    const name = parseName(data);
    const find = (): TargetExport | undefined => {
      const one = name === undefined ? undefined : this.#host.exports.find(name);
      return one?.refusal?.(!this.#contexts.reads(one)) === undefined ? one : undefined;
    };
    const found = find();
    if (found) this.#looked(found, true, (failure) => this.#enterByName(failure === undefined ? find() : undefined));
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
    this.#looked(found, this.#option === Option.go, (failure) => {
      if (failure !== undefined) return this.#error(OptionReply.errShutdown, messageOf(failure));
      // The export may have been removed or replaced meanwhile: look it up again.
      const still = this.#find(wanted.name);
      if (still) this.#tell(still, wanted);
    });
  }

  #tell(found: TargetExport, { requests }: InfoOption): void {
    const infos = infosOf(found, requests, this.#style, this.#hasContexts(found));
    for (const info of infos) this.#reply(OptionReply.info, info);
    if (this.#option === Option.go) this.#enter(found, () => this.#reply(OptionReply.ack));
    else this.#reply(OptionReply.ack);
  }

  #meta(data: Uint8Array): void {
    const setting = this.#option === Option.setMetaContext;
    if (setting) this.#contexts.clear();
    if (this.#style === 'simple') {
      return this.#error(OptionReply.errInvalid, 'structured replies or extended headers must be negotiated first');
    }
    const wanted = parseMeta(data);
    if (!wanted) return this.#malformed();
    const found = this.#find(wanted.name, false);
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
    const session = this.#contexts.select(of, queries);
    if (session === undefined) return this.#contextsSet(of);
    this.#work();
    void this.#host.join(of.sessions, session).then((joined) => {
      if (this.#reader.over) return;
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
    for (const [id, name] of this.#contexts.names(of, session)) {
      this.#reply(OptionReply.metaContext, metaContext(id, name));
    }
    this.#reply(OptionReply.ack);
  }

  /**
   * True if the export may be asked for block status. NBD_OPT_INFO: contexts can still be selected.
   * Otherwise: contexts were selected for this export.
   */
  #hasContexts(of: TargetExport): boolean {
    return this.#option === Option.info || this.#contexts.has(of);
  }

  #enter(of: TargetExport, answer: () => void): void {
    const contexts = this.#contexts.of(of);
    if (contexts.session === undefined) this.#host.leave();
    this.#stop();
    const { maximum } = blockSizes(of);
    const readOnly = this.#contexts.reads(of) ? TransmissionFlag.readOnly : 0;
    const agreed: Agreement = {
      flags: transmissionFlags(of, this.#style, this.#hasContexts(of)) | readOnly,
      size: of.device.info.size,
      minimum: of.device.info.blockSize,
      maximum,
      style: this.#style,
      contexts: this.#hasContexts(of),
      medium: this.#contexts.mediumOf(of),
    };
    answer();
    this.#host.enter(of, agreed, contexts);
  }

  /**
   * Finds an export by name. Undefined after an error reply has been sent.
   * @param enters false if the client only asks for contexts, which say later what it will do
   */
  #find(name: string, enters = true): TargetExport | undefined {
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
    const refusal = found ? found.refusal?.(enters && !this.#contexts.reads(found)) : exports.refusal?.(name);
    if (found && refusal === undefined) return found;
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
