/**
 * The handshake of one connection ([NBD] "Handshake", "Fixed newstyle negotiation"): greeting, then options until one of
 * them enters transmission. Bytes may come in any pieces. With TLS it is done with at NBD_OPT_STARTTLS, and another one,
 * which knows nothing of it but the client's flags, begins over TLS ([NBD] "TLS support").
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

/** What the handshake needs of its connection besides what every phase does. */
export interface HandshakeHost extends StageHost {
  readonly exports: ExportDirectory;
  /** The connection is encrypted. */
  readonly secured: boolean;
  readonly tls: TlsMode;
  /** Counts the time that the handshake takes. */
  readonly clock: HandshakeClock;
  /** The client has been told that it may begin with TLS. @param flags Of the client, for the next handshake. */
  secure(flags: number): void;
  /** Makes this connection the session's; see {@link SessionRegistry.join}. */
  join(registry: SessionRegistry, id: string): Promise<boolean>;
  /** Ends the connection's membership in its session, if it has one. */
  leave(): void;
  /** The handshake has succeeded. */
  enter(of: TargetExport, agreed: Agreement, contexts: ChosenContexts): void;
}

/**
 * [NBD] "Server-side requirements": NOTLS; SELECTIVETLS, where a client has the choice but for exports that are
 * TLS-only; FORCEDTLS.
 */
export type TlsMode = 'off' | 'on' | 'require';

const optionHeaderSize = 16;
/** Data of an option that is skipped; more ends the connection. In bytes. */
const maxSkip = 1 << 20;
/** Length of the buffer for options that is kept for the next one, in bytes. */
const keptLength = 1024;
/** How long a client has to hang up by itself after the server has begun to shut down, in ms. */
const drainMs = 1000;

export class Handshake implements Stage {
  readonly #host: HandshakeHost;
  #buffer = new Uint8Array(optionHeaderSize);
  #have = 0;
  /** Bytes until the next step: of the buffer, or of data that is skipped. */
  #need = 4;
  /** 'over': the handshake takes no more bytes, ever. What comes is for the next phase. */
  #expected: 'flags' | 'option' | 'data' | 'skip' | 'over' = 'flags';
  #option = 0;
  #options = 0;
  #flags = 0;
  #style: HeaderStyle = 'simple';
  #contexts = noContexts;
  /** The export that the contexts were chosen for, and the medium that was in it. */
  #contextsOf: TargetExport | undefined;
  #medium = '';
  /** Waiting for a session's earlier connections, or for the length of an export. */
  #working = false;
  /** They did not end in time. */
  #refused = false;
  #draining = false;
  /** Of the shutdown. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(host: HandshakeHost) {
    this.#host = host;
  }

  /** Goes on over TLS with a client that was greeted before. @param flags What it answered. */
  resume(flags: number): void {
    this.#flags = flags;
    this.#expect('option', optionHeaderSize);
  }

  /** Greets the client. */
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
    // The step that enters transmission leaves the rest of the chunk to it.
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

  /** Memory is taken for what has come, not for what was announced, and given back with a long option. */
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
        // The next option may come in place of the data that a reply still needs.
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
      // [NBD] "Server-side requirements": it could not even be told.
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

  /** Nothing is done before TLS: [NBD] "FORCEDTLS mode". */
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
    // [NBD] NBD_OPT_STARTTLS: nothing that was agreed on before it counts after it.
    this.#host.leave();
    this.#host.secure(this.#flags);
  }

  /** Takes no option until {@link #worked}: the server has something to do for this one. */
  #work(): void {
    this.#working = true;
    this.#host.clock.turn('server');
  }

  #worked(): void {
    this.#working = false;
    this.#host.clock.turn('client');
  }

  /** Goes on when it is known how long the export's medium is now, at once where that does not change. */
  #looked({ device }: TargetExport, next: () => void): void {
    if (!device.refresh) return next();
    this.#work();
    // One that cannot tell has the length that is known.
    const looked = device.refresh().catch(() => undefined);
    void looked.then(() => {
      if (this.#expected === 'over') return;
      this.#worked();
      next();
      // Even if the reply has not left: transmission, which may have begun with it, does not wait for that.
      this.#host.wake();
    });
  }

  /** [NBD] NBD_OPT_EXPORT_NAME, which has no error reply. */
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
      // Others may have come meanwhile.
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
      // Even if the reply has not left: transmission, which may have begun with it, does not wait for that.
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

  /** Whether an export may be asked for block status: contexts were chosen for it or, where it is only looked at, can be. */
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
      // What the client was told, if it was: what it has been told since of another medium is then not to be used.
      medium: contexts.media === undefined ? of.device.media?.medium : this.#medium,
    };
    answer();
    this.#host.enter(of, agreed, contexts);
  }

  /** The export of that name, or undefined after an error has been sent. */
  #find(name: string): TargetExport | undefined {
    const { exports } = this.#host;
    const found = exports.find(name);
    if (found && this.#hidden(found)) {
      // [NBD] "SELECTIVETLS mode": to other options than these two, this error must not be given.
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

  /** Whether it is not for clients without TLS, and this is one. */
  #hidden(of: TargetExport): boolean {
    return of.tlsOnly === true && !this.#host.secured;
  }

  #stillBusy(): void {
    this.#error(
      OptionReply.errShutdown,
      "the session's earlier connection still has requests under way: try again later",
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
    // A list goes out as one; whatever ends it follows at once.
    const more = type === OptionReply.server || type === OptionReply.info || type === OptionReply.metaContext;
    this.#host.outbox.add(optionReply(this.#host.arena, this.#option, type, ...parts), more);
  }
}
