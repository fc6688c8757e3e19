/**
 * Lent exports: a browser's tab calls in and offers a disk, and the server serves it under the name
 * that the tab gives. On the call, the tab is the NBD target and this server is the initiator. If
 * the call is lost, requests wait until the tab calls again with the same disk, as with any other
 * source on another computer.
 *
 * Not here: the call itself and its token (src/web/server); the tab's side (src/web/lend).
 */
import { messageOf } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import type { Logger } from '../../base/log.js';
import { WindowedLogger } from '../../base/log-window.js';
import type { ExportOptions, Exports, Offered } from '../../export/exports.js';
import type { ByteStream } from '../../network/stream.js';
import { CallInDialer } from '../../protocol/nbd/initiator/called-in.js';
import { connectNbd, type NbdInitiator } from '../../protocol/nbd/initiator/initiator.js';
import type { RemoteState } from '../../protocol/remote/reconnection.js';
import { memoryOfProcess } from '../unflushed.js';

/** Most lent exports at once, unless the caller says otherwise. */
const usualMost = 16;
/** Most calls of one token whose tabs have not answered yet: each keeps its place for a while. */
const mostOpening = 4;
/** Longest name of a lent export, in bytes: a file's name is at most as long. */
const maxName = 255;
/** Time limit for the handshake of a call, with the wait for the call, in seconds. */
const connectSeconds = 15;
/** {@link LendsOptions.answerMs} */
const usualAnswerMs = 5000;
/** How often a lent export whose tab is gone for good is checked for users, in ms. */
const idleMs = 1000;

/** A call of a tab. */
export interface Call {
  readonly stream: ByteStream;
  /** The token that the tab has shown, by its id, and true if it is the console token. */
  readonly token: { readonly id: string; readonly control: boolean };
  /**
   * Ends the call. The tab shows the reason to its user and does not call again. A short text
   * without the name: a WebSocket carries 123 bytes.
   */
  refuse(why: string): void;
}

/** Settings that apply to new lent exports. */
export interface LendSettings {
  /** How long requests wait for a tab that is gone, in seconds. */
  readonly reconnectSeconds: number;
  /** Options of the exports, such as who may use them. */
  readonly exportOptions?: Pick<ExportOptions, 'access' | 'metered' | 'watch'>;
}

export interface LendsOptions extends LendSettings {
  readonly exports: Exports;
  readonly log: Logger;
  /** Most lent exports at once. Default 16. */
  readonly most?: number | undefined;
  /**
   * If another tab calls, and the one that lends does not answer a read within this time, it is
   * taken for gone, in ms. Default 5000.
   */
  readonly answerMs?: number | undefined;
}

export class Lends {
  #options: LendsOptions;
  readonly #log: WindowedLogger;
  readonly #byName = new Map<string, Lend>();
  #closed = false;

  constructor(options: LendsOptions) {
    this.#options = options;
    this.#log = new WindowedLogger(options.log, 'lent exports');
  }

  /** Sets the settings of exports that are lent from now on. */
  change(settings: LendSettings): void {
    this.#options = { ...this.#options, ...settings };
  }

  /** The names of the lent exports. */
  get names(): string[] {
    return [...this.#byName.keys()];
  }

  /**
   * A tab calls and lends a disk as `name`. Resolves when the call is refused or has become, or
   * joined, an export. Never rejects.
   */
  async receive(name: string, call: Call): Promise<void> {
    try {
      const found = this.#byName.get(name);
      if (found && !found.over) {
        const why = await found.again(call);
        if (why !== undefined) this.#refuse(name, call, why);
        return;
      }
      found?.end();
      const why = this.#refusal(name, call.token);
      if (why !== undefined) return this.#refuse(name, call, why);
      const lend = new Lend(name, call, this.#options, this.#log, () => {
        if (this.#byName.get(name) === lend) this.#byName.delete(name);
      });
      this.#byName.set(name, lend);
      await lend.open();
    } catch (error) {
      this.#refuse(name, call, messageOf(error));
    }
  }

  /** The tab that lends `name` stops, or may lend no longer: the export ends at once. */
  stop(name: string, { stream }: Call, why = 'the browser has stopped lending it'): void {
    const lend = this.#byName.get(name);
    if (lend?.isWith(stream)) lend.end(why);
  }

  /** Ends the calls. The exports own the devices and close them. */
  close(): void {
    this.#closed = true;
    for (const lend of this.#byName.values()) lend.end();
    this.#log.flush();
  }

  #refuse(name: string, call: Call, why: string): void {
    const message = `${call.stream.peer}: does not lend ${visible(JSON.stringify(name))}: ${why}`;
    this.#log.log('warn', `refused ${name}`, message);
    call.refuse(why);
  }

  /** The reason why a new export cannot have that name, or there can be none. */
  #refusal(name: string, { id, control }: Call['token']): string | undefined {
    const { exports, most = usualMost } = this.#options;
    if (this.#closed) return 'the server is ending';
    if (name === '') return 'a lent file needs a name';
    if (new TextEncoder().encode(name).length > maxName) return `the name is longer than ${maxName} bytes: shorten it`;
    if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Surrogate}]/u.test(name)) {
      return 'the name has control characters: choose another';
    }
    if (exports.find(name)) return 'there is an export with this name already: choose another name';
    const opening = [...this.#byName.values()].filter((one) => one.isOpeningFor(id)).length;
    if (!control && opening >= mostOpening) {
      return `${opening} files of this token have not been opened yet: wait until they are`;
    }
    if (this.#byName.size >= most) return `${most} files are lent already: stop lending one of them first`;
    return undefined;
  }
}

/** One lent export. */
class Lend {
  readonly #name: string;
  readonly #options: LendsOptions;
  readonly #log: WindowedLogger;
  readonly #ended: () => void;
  readonly #dialer: CallInDialer;
  /** The latest call. It may have another disk, which is not known yet. */
  #call: Call;
  /** The latest call whose disk was taken. Its token may call again; its tab may stop lending. */
  #owner: Call;
  /** The latest of the calls that wait until it is known whether the owner answers. */
  #candidate: Call | undefined;
  readonly #calls = new WeakMap<ByteStream, Call>();
  #device: NbdInitiator | undefined;
  #offered: Offered | undefined;
  #state: RemoteState = 'connected';
  #idle: ReturnType<typeof setInterval> | undefined;
  /** Called when the call is lost. */
  #lost: (() => void) | undefined;
  /** True if the owner answers. Undefined if it is not being asked. */
  #asked: Promise<boolean> | undefined;

  constructor(name: string, call: Call, options: LendsOptions, log: WindowedLogger, ended: () => void) {
    this.#name = name;
    this.#options = options;
    this.#log = log;
    this.#ended = ended;
    this.#call = this.#owner = call;
    const shown = JSON.stringify(name);
    this.#dialer = new CallInDialer(
      `the lent ${shown}`,
      `the lent ${shown} is away: open the page that lends it again, and pick the same file`,
    );
  }

  /** True if its users get errors, or it has none, so that a new disk may take the name. */
  get over(): boolean {
    if (this.#state !== 'lost') return this.#state === 'closed';
    // Without a time to wait, the initiator does not try again.
    return this.#options.reconnectSeconds === 0 || this.#offered?.inUse !== true;
  }

  /** True if the tab of this token has called, and not answered yet. */
  isOpeningFor(token: string): boolean {
    return this.#device === undefined && this.#owner.token.id === token;
  }

  /** True if this is the stream of the latest call whose disk was taken. */
  isWith(stream: ByteStream): boolean {
    return this.#owner.stream === stream;
  }

  /** Makes the first connection and the export. Rejects with a FarbusError. */
  async open(): Promise<void> {
    const { exports, reconnectSeconds, exportOptions } = this.#options;
    const { peer } = this.#call.stream;
    // Its messages name the export, and no peer, whose port would make each one new.
    const log: Logger = { log: (level, message) => this.#log.log(level, message, message) };
    try {
      this.#accept(this.#call);
      this.#device = await connectNbd(this.#dialer, {
        reconnectSeconds,
        connectSeconds,
        soleWriter: true,
        log,
        onState: (state) => this.#enter(state),
        onOther: (why) => this.#refuseLatest(why),
      });
      const description = "lent by a browser's tab";
      const own = { name: this.#name, device: this.#device, description, state: memoryOfProcess() };
      this.#offered = exports.add({ ...exportOptions, ...own });
    } catch (error) {
      await this.#device?.close();
      this.end();
      throw error;
    }
    this.#log.log('info', `lends ${this.#name}`, `${peer}: lends ${this.#shown}, ${this.#device.info.size} bytes`);
  }

  /** A further call for the name. Returns the reason if it is refused. */
  async again(call: Call): Promise<string | undefined> {
    // The holder of another token could put another content under the users of the disk: marks and
    // samples, by which it is recognised, can be imitated by one who knows the file.
    const { token } = this.#owner;
    if (!call.token.control && call.token.id !== token.id) {
      return 'a tab with another token lends under this name: choose another name';
    }
    const other = 'another tab lends under this name: close it first, or choose another name';
    if (this.#device === undefined) return other;
    this.#candidate = call;
    if (this.#state === 'connected') {
      const answers = await (this.#asked ??= this.#answers().finally(() => (this.#asked = undefined)));
      // A tab with a bad network may lose its call meanwhile and call again: the latest one counts.
      if (answers || this.#candidate !== call) return other;
    }
    const before = this.#call;
    this.#accept(call);
    before.stream.destroy();
    return undefined;
  }

  #accept(call: Call): void {
    this.#call = call;
    this.#calls.set(call.stream, call);
    this.#dialer.offer(call.stream);
  }

  /** The call that the initiator looks at has another disk. */
  #refuseLatest(why: string): void {
    const { taken } = this.#dialer;
    const call = taken && this.#calls.get(taken);
    if (!call) return;
    const message = `${call.stream.peer}: has another file than was lent as ${this.#shown}: ${why}`;
    this.#log.log('warn', `other ${this.#name}`, message);
    call.refuse(`not the file that was lent under this name, or changed since: ${why}`);
  }

  /** Removes the export and ends the call. */
  end(why?: string): void {
    clearInterval(this.#idle);
    const { exports } = this.#options;
    this.#ended();
    this.#dialer.close();
    if (!this.#offered) return;
    // The configuration may have given the name to another export meanwhile.
    if (exports.find(this.#name) === this.#offered) exports.remove(this.#name);
    if (why === undefined) return;
    this.#log.log('info', `ended ${this.#name}`, `${this.#shown} is no longer lent: ${why}`);
    void this.#offered.close().catch(() => undefined);
  }

  get #shown(): string {
    return visible(JSON.stringify(this.#name));
  }

  #enter(state: RemoteState): void {
    this.#state = state;
    const { taken } = this.#dialer;
    if (state !== 'connected') this.#lost?.();
    else this.#owner = (taken && this.#calls.get(taken)) ?? this.#owner;
    clearInterval(this.#idle);
    if (state !== 'lost') return;
    const check = (): void => {
      if (this.over) this.end();
    };
    // Users that are still there get errors until they leave or the tab comes back.
    this.#idle = setInterval(check, idleMs);
    this.#idle.unref();
  }

  /** True if the tab answers a read in time. False as soon as its call is lost. */
  async #answers(): Promise<boolean> {
    const device = this.#device!;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const gone = new Promise<boolean>((resolve) => {
      this.#lost = () => resolve(false);
      timer = setTimeout(this.#lost, this.#options.answerMs ?? usualAnswerMs);
    });
    const stop = new AbortController();
    const one = new Uint8Array(Math.min(device.info.blockSize, device.info.size));
    // An error is an answer too.
    const answer = device.read(0, one, { signal: stop.signal }).then(
      () => true,
      () => this.#state === 'connected',
    );
    const answered = await Promise.race([answer, gone]);
    clearTimeout(timer);
    this.#lost = undefined;
    stop.abort();
    return answered;
  }
}
