/**
 * A channel (protocol/channels/channel.ts) over one SFTP connection with one open file. Many
 * requests are in flight; answers come in any order. After a short read, the rest is requested
 * again.
 */
import { Deadline } from '../../base/deadline.js';
import { contiguous } from '../../base/buffers.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { BlockError } from '../../block/errors.js';
import type { ByteStream } from '../../network/stream.js';
import type { Fate, FenceKey } from '../../block/life.js';
import { keyPartOfServer, startedAnew, type Channel, type ChannelEvents } from '../channels/channel.js';
import type { RemoteRequest } from '../channels/request.js';
import { SftpConnection, type Answer } from './connection.js';
import { parseStat, sftpFacts, type ServerProcess, type SftpFacts, type SftpWish } from './facts.js';
import { StatusError, expect, readText } from './files.js';
import { Extension, Packet, Status } from './spec.js';
import { expectStatus, statusError, type StatusAnswer } from './status.js';

/**
 * Most requests in flight, and most bytes. The server works them off one by one, so more would only
 * wait there.
 */
const maxDepth = 64;
const maxBytes = 16 << 20;
/**
 * How long the server may answer no request at all, and how long it may leave one request
 * unanswered, in ms.
 */
const answerMs = 300_000;
const ageMs = 900_000;
/** How long a fence may take, in ms. It reads some short files. */
const fenceMs = 60_000;
const watchMs = 10_000;
/**
 * How long a fence waits for an old server process to end by itself, and again after it was killed,
 * in ms; and its polling interval.
 */
const patienceMs = 1000;
const pollMs = 50;

export interface SftpChannelOptions extends SftpWish {
  /** Time limit for the whole start, in seconds. */
  readonly startSeconds: number;
  /** Kills that process on the server, after a check that it is still the same process. */
  readonly kill: (old: ServerProcess) => Promise<void>;
}

/**
 * Opens a channel over a stream to an SFTP server. Rejects with an error whose message is for
 * users.
 */
export async function openSftpChannel(
  dial: (signal: AbortSignal) => Promise<ByteStream>,
  options: SftpChannelOptions,
  signal: AbortSignal | undefined,
): Promise<SftpChannel> {
  const { startSeconds, address } = options;
  const limit = new Deadline(startSeconds * 1000, signal);
  let connection: SftpConnection | undefined;
  const stop = (): void => connection?.destroy();
  limit.signal.addEventListener('abort', stop);
  try {
    connection = new SftpConnection(await dial(limit.signal));
    await connection.greet(limit.signal);
    connection.listen({ drain: () => undefined, closed: () => undefined });
    return new SftpChannel(connection, await sftpFacts(connection, options), options);
  } catch (error) {
    connection?.destroy();
    if (limit.passed) {
      throw new FarbusError(`cannot reach ${address}: no SFTP session within ${startSeconds} seconds`);
    }
    if (error instanceof FarbusError) throw error;
    throw new FarbusError(`cannot use ${address}: ${messageOf(error)}`, { cause: error });
  } finally {
    limit.end();
  }
}

export class SftpChannel implements Channel {
  readonly facts: SftpFacts;
  readonly fenceKey: FenceKey;
  readonly #connection: SftpConnection;
  readonly #options: SftpChannelOptions;
  /** Unanswered requests, oldest first, with the time at which each was sent. */
  readonly #sent = new Map<RemoteRequest, number>();
  #bytes = 0;
  #events: ChannelEvents | undefined;
  #ended: (() => void) | undefined;
  #heard = 0;
  #watch: ReturnType<typeof setInterval> | undefined;

  constructor(connection: SftpConnection, facts: SftpFacts, options: SftpChannelOptions) {
    this.#connection = connection;
    this.facts = facts;
    this.fenceKey = { kind: 'sftp', ...keyPartOfServer(facts), ...facts.process };
    this.#options = options;
    connection.listen({
      drain: () => this.#events?.room(),
      closed: (reason) => this.#onClosed(reason),
    });
  }

  get load(): number {
    return this.#sent.size;
  }

  hasRoom(request: RemoteRequest): boolean {
    if (this.#connection.closed || this.#connection.blocked) return false;
    return this.#sent.size === 0 || (this.#sent.size < maxDepth && this.#bytes + request.length <= maxBytes);
  }

  start(events: ChannelEvents): void {
    this.#events = events;
    if (this.#connection.closed) queueMicrotask(() => events.lost('the connection was closed', []));
  }

  /**
   * Sends a request. [SYS] fig. 13: 421, read or write; 423 and 426, send; 427, send the data. SFTP
   * needs no translation (422, 425).
   */
  send(request: RemoteRequest): void {
    if (this.#sent.size === 0) this.#heard = performance.now();
    this.#watch ??= setInterval(() => this.#checkAlive(), watchMs);
    this.#sent.set(request, performance.now());
    this.#bytes += request.length;
    const { handle } = this.facts;
    switch (request.op) {
      case 'read':
        return this.#read(request, 0, undefined);
      case 'write':
        return this.#connection.send(
          Packet.write,
          { answer: (answer) => this.#written(request, expectStatus(answer)) },
          (packet) => packet.bytes(handle).u64(request.offset),
          contiguous(request.buffers!),
        );
      case 'flush':
        return this.#connection.send(
          Packet.extended,
          { answer: (answer) => this.#done(request, expectStatus(answer)) },
          (packet) => packet.text(Extension.fsync).bytes(handle),
        );
      case 'zero':
        return this.#settle(request, new BlockError('unsupported', 'SFTP has no zeroing'));
    }
  }

  /**
   * Fences an earlier SFTP server process. Such a process ends by itself with its connection, after
   * the requests that it had received. If it has not noticed the end of the connection, it is
   * killed from a shell. In both cases the new server's /proc shows when it is gone.
   */
  async fence(key: FenceKey): Promise<Fate> {
    if (startedAnew(key, this.facts)) return 'gone';
    const { machine, boot } = this.fenceKey;
    // A process id and start time are meaningful only within one boot of one system.
    const old = key['machine'] === machine && key['boot'] === boot ? processOf(key) : undefined;
    const own = this.facts.process;
    if (!old || !own || old.space !== own.space || this.facts.boot === '') return 'unknown';
    const late = setTimeout(() => this.destroy(), fenceMs);
    try {
      if (await this.#goes(old)) return 'gone';
      await this.#options.kill(old);
      if (await this.#goes(old)) return 'gone';
    } finally {
      clearTimeout(late);
    }
    throw new Error('an earlier SFTP server is still at work there');
  }

  close(): Promise<void> {
    if (this.#connection.closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#ended = resolve;
      this.#connection.send(Packet.close, { answer: () => undefined }, (packet) => packet.bytes(this.facts.handle));
      this.#connection.end();
    });
  }

  destroy(): void {
    this.#connection.destroy();
  }

  /** True if the process is gone within a short time. */
  async #goes(old: ServerProcess): Promise<boolean> {
    for (const end = performance.now() + patienceMs; ;) {
      try {
        const now = parseStat(await readText(this.#connection, `/proc/${old.pid}/stat`));
        if (!now) throw new Error('the server does not say whether an earlier one is still at work');
        if (now.start !== old.start || now.state === 'Z' || now.state === 'X') return true;
      } catch (error) {
        if (!(error instanceof StatusError)) throw error;
        // If a process ends while it is examined, the read fails. The next look then finds no
        // process.
        if (error.status.code === Status.noSuchFile) return true;
      }
      if (performance.now() > end) return false;
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }

  /**
   * Reads, and continues after a short read. [SYS] step 424: receive the answer of the server's
   * system.
   */
  #read(request: RemoteRequest, from: number, fault: BlockError | undefined): void {
    const left = request.length - from;
    let failed = fault;
    const waiter = {
      most: left,
      data: (bytes: Uint8Array, at: number): void => {
        try {
          request.buffers!.copyFrom(bytes, from + at);
        } catch (error) {
          failed ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
        }
      },
      dataEnd: (length: number): void => {
        if (length === left) this.#settle(request, failed);
        else if (length > 0) this.#read(request, from + length, failed);
        else this.#done(request, { code: Status.eof, text: '' });
      },
      answer: (answer: Answer): void => {
        const status = expectStatus(answer);
        this.#done(request, status.code === Status.ok ? { code: Status.failure, text: 'no data' } : status);
      },
    };
    this.#connection.send(Packet.read, waiter, (packet) =>
      packet
        .bytes(this.facts.handle)
        .u64(request.offset + from)
        .u32(left),
    );
  }

  #written(request: RemoteRequest, status: StatusAnswer): void {
    // SFTP version 3 has no status for a full disk: query the free space.
    if (status.code !== Status.failure || !this.facts.statFileSystem) return this.#done(request, status);
    const ask = this.#connection.ask(Packet.extended, (packet) =>
      packet.text(Extension.statFileSystem).bytes(this.facts.handle),
    );
    ask.then(
      (answer) => this.#settle(request, statusError(this.#what(request), status, isFull(answer))),
      // The request is among the unfinished ones of the lost connection.
      () => undefined,
    );
  }

  #done(request: RemoteRequest, status: StatusAnswer): void {
    this.#settle(request, status.code === Status.ok ? undefined : statusError(this.#what(request), status));
  }

  #settle(request: RemoteRequest, error?: BlockError): void {
    this.#heard = performance.now();
    if (!this.#sent.delete(request)) return;
    this.#bytes -= request.length;
    this.#events?.answered(request, error);
    this.#events?.room();
  }

  #what({ op, offset, length }: RemoteRequest): string {
    return `${this.#options.address}: ${op} ${offset}+${length}`;
  }

  #checkAlive(): void {
    if (this.#sent.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
      return;
    }
    const now = performance.now();
    const [oldest = now] = this.#sent.values();
    if (now - this.#heard > answerMs || now - oldest > ageMs) this.destroy();
  }

  #onClosed(reason: Error | undefined): void {
    clearInterval(this.#watch);
    const unfinished = [...this.#sent.keys()];
    this.#sent.clear();
    this.#ended?.();
    this.#events?.lost(reason ? messageOf(reason) : 'the server ended the session', unfinished);
  }
}

/**
 * Extracts the SFTP server's process from a fence key. Checked strictly, because the values become
 * words of a shell command.
 */
function processOf({ kind, pid, start, space }: FenceKey): ServerProcess | undefined {
  if (kind !== 'sftp' || typeof pid !== 'number' || typeof start !== 'string' || typeof space !== 'string')
    return undefined;
  return pid > 1 && /^\d{1,20}$/.test(start) ? { pid, start, space } : undefined;
}

/** True if no block is free for this user ([PROTOCOL] 4.5). */
function isFull(answer: Answer): boolean {
  try {
    const fields = expect(answer, Packet.extendedReply);
    for (let i = 0; i < 4; i++) fields.u64();
    return fields.u64() === 0;
  } catch {
    return false;
  }
}
