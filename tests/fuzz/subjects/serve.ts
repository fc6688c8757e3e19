/**
 * `farbus serve` as a subject of fuzzing: hostile clients, many at a time, on one export of a
 * server that is composed as the command line composes it (harness/compositions.ts). Whatever they
 * send, nothing is thrown, every connection ends when its client has gone and leaves nothing
 * behind, the answers are well-formed and hold nothing but bytes of the export, and another client
 * reads what it wrote.
 */
import { readdirSync } from 'node:fs';
import type { LogLevel } from '../../../src/base/log.js';
import { connectNbd } from '../../../src/protocol/nbd/initiator/initiator.js';
import type { ByteStream, StreamEvents } from '../../../src/network/stream.js';
import { NbdCommand, CommandFlag, Option } from '../../../src/protocol/nbd/spec.js';
import { SlabPool } from '../../../src/protocol/nbd/target/memory.js';
import { readBytes, writeBytes } from '../../../src/conformance/subject.js';
import { memoryDialer } from '../../support/stream-pair.js';
import { join, pack, string, text } from '../harness/bytes.js';
import { Composed, exportSize, possibleCompositions, token, type Composition } from '../harness/compositions.js';
import { poison, type Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import type { Random } from '../../../src/conformance/random.js';
import { judge } from './target-judge.js';
import { nextIteration } from '../../support/event-loop.js';

/** Batches after which a server is ended, looked at, and composed anew. */
const batchesOfOne = 300;
/**
 * How long connections may take to end when their clients have gone, in ms: only a hang reaches it.
 */
const patienceMs = 30_000;
/** Bytes of a generated request at most. */
const maxLength = 10_240;
const session = 'farbus:session/01234567-89ab-4def-8123-456789abcdef';

class FuzzStream implements ByteStream {
  readonly peer: string;
  readonly out: Uint8Array[] = [];
  outLength = 0;
  closed = false;
  /** Takes nothing, until the end. */
  blocked: boolean;
  events!: StreamEvents;
  readonly #toSend: Uint8Array[];
  #fed = 0;
  #waiting: Uint8Array[] = [];
  #paused = false;
  #feeding = false;

  constructor(peer: string, input: Input, blocked: boolean) {
    this.peer = peer;
    this.#toSend = [...input];
    this.blocked = blocked;
  }

  get pending(): number {
    return this.#waiting.length;
  }

  /** Grows whenever something is sent, in either direction. */
  get progress(): number {
    return this.outLength + this.#fed;
  }

  /** All that the server has sent. */
  get output(): Uint8Array {
    if (this.out.length > 1) this.out.splice(0, this.out.length, join(...this.out));
    return this.out[0] ?? new Uint8Array(0);
  }

  attach(events: StreamEvents): void {
    this.events = events;
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.blocked) {
      this.#waiting.push(...chunks);
      return false;
    }
    for (const chunk of chunks) this.#take(chunk);
    return true;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (!this.#feeding) queueMicrotask(() => this.feed());
  }

  end(): void {
    this.unblock();
    this.closed = true;
  }

  destroy(): void {
    this.closed = true;
  }

  unblock(): void {
    if (!this.blocked) return;
    this.blocked = false;
    for (const chunk of this.#waiting.splice(0)) this.#take(chunk);
    if (!this.closed) this.events.drain();
  }

  /** The client goes. */
  hangUp(): void {
    this.closed = true;
    this.events.closed();
  }

  feed(): void {
    if (this.#feeding) return;
    this.#feeding = true;
    while (!this.#paused && !this.closed && this.#toSend.length > 0) {
      // A chunk is valid during the call only: a parser that keeps it is found out.
      const chunk = this.#toSend.shift()!.slice();
      this.#fed++;
      this.events.data(chunk);
      chunk.fill(0xdd);
    }
    this.#feeding = false;
  }

  #take(chunk: Uint8Array): void {
    this.outLength += chunk.length;
    this.out.push(chunk.slice());
  }
}

/** One composed server, and a client of it that does no harm. */
class Server {
  readonly name: string;
  readonly reasons = new Map<string, string>();
  batches = 0;
  #composed!: Composed;
  #neighbour!: Awaited<ReturnType<typeof connectNbd>>;

  private constructor(name: string) {
    this.name = name;
  }

  static async open(composition: Composition): Promise<Server> {
    const server = new Server(composition.name);
    const log = (_level: LogLevel, line: string): void => {
      const colon = line.indexOf(':');
      server.reasons.set(line.slice(0, colon), line.slice(colon + 1));
    };
    server.#composed = await Composed.open(composition, { log });
    server.#neighbour = await connectNbd(memoryDialer(server.#composed.service.server.accept), {
      exportName: 'neighbour',
    });
    return server;
  }

  /** Connects a client. */
  accept(stream: ByteStream): void {
    this.#composed.service.server.accept(stream);
  }

  /** The other client writes and reads. Rejects where it does not get what it wrote. */
  async neighbour(): Promise<void> {
    const block = new Uint8Array(4096).fill(this.batches);
    const at = (this.batches % (exportSize / 4096)) * 4096;
    await writeBytes(this.#neighbour, at, block);
    const back = await readBytes(this.#neighbour, at, 4096);
    if (Buffer.compare(back, block) !== 0) throw new Error('another client does not read what it wrote');
  }

  /** The clients that are connected, besides the neighbour. */
  get clients(): string[] {
    const all = [...this.#composed.service.server.clients];
    return all.filter(({ peer }) => peer !== 'memory').map(({ peer }) => peer);
  }

  /** Traces of clients that have gone; '' for none. */
  get left(): string {
    const offered = this.#composed.service.server.exports.find('disk')!;
    if (offered.inUse) return 'the export is in use';
    if (offered.users.size > 0) return 'the export has clients';
    if (offered.lease && offered.lease.holder !== '') return 'a client that has gone may write';
    return offered.media.held ? 'a client that has gone holds the medium' : '';
  }

  async after(): Promise<void> {
    this.batches++;
    await this.neighbour();
    await this.#composed.refill();
  }

  async close(): Promise<void> {
    await this.#neighbour.close();
    const wrong = await this.#composed.close();
    if (wrong !== undefined) throw new Error(`${this.name}: ${wrong}`);
  }
}

const servers = new Map<string, Server>();
let possible: Composition[] = [];
let files = 0;
const openFiles = (): number => readdirSync('/proc/self/fd').length;

export const serve: Subject = {
  name: 'serve',
  generate,
  message: (random) => (random.once(3) ? option(random) : request(random, random.below(2) === 1)),

  async open() {
    possible = possibleCompositions();
    files = openFiles();
    // Memory that was not written is known by its bytes.
    const take = SlabPool.prototype.take;
    SlabPool.prototype.take = function (this: SlabPool, length: number) {
      const slab = take.call(this, length);
      if (slab.used === 0) slab.bytes.fill(poison);
      return slab;
    };
  },

  async run(inputs, random) {
    const composition = random.pick(possible);
    const server = servers.get(composition.name) ?? (await Server.open(composition));
    servers.set(server.name, server);
    server.reasons.clear();
    const fault = (what: string, input: Input, cause?: unknown): FuzzError =>
      new FuzzError(`${server.name}: ${what}`, input, cause);
    const peers = inputs.map((input, index) => ({ input, stream: new FuzzStream(`p${index}`, input, random.once(8)) }));
    for (const { stream, input } of peers) {
      try {
        server.accept(stream);
        stream.feed();
      } catch (error) {
        throw fault('it threw', input, error);
      }
    }
    const streams = peers.map(({ stream }) => stream);
    await quiet(streams);
    for (const stream of streams) stream.unblock();
    await quiet(streams);
    const signatures: string[] = [];
    for (const { stream, input } of peers) {
      let verdict = judge(stream.output, stream.closed);
      // Something may be on its way still.
      for (let looks = 0; looks < 100 && verdict.wrong !== undefined; looks++) {
        await pause(10);
        verdict = judge(stream.output, stream.closed);
      }
      if (verdict.wrong !== undefined) throw fault(verdict.wrong, input);
      signatures.push(`${verdict.signature}${server.reasons.get(stream.peer) ?? ''}`);
    }
    for (const stream of streams) stream.hangUp();
    for (const end = Date.now() + patienceMs; server.clients.length > 0;) {
      await nextIteration();
      if (Date.now() < end) continue;
      const input = peers.find(({ stream }) => stream.peer === server.clients[0])!.input;
      throw fault('a connection does not end', input);
    }
    await nextIteration();
    if (server.left !== '') throw fault(server.left, inputs[0]!);
    await server.after();
    if (server.batches >= batchesOfOne) {
      servers.delete(server.name);
      await server.close();
    }
    return signatures;
  },

  async close() {
    for (const server of servers.values()) await server.close();
    servers.clear();
    await pause(100);
    const left = openFiles() - files;
    // The event loop, io_uring and the watchdog keep some.
    if (left > 16) throw new Error(`${left} files are left open`);
  },
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Turns of the event loop without a change after which nothing is expected to come by itself. */
const calmTurns = 6;

/** Waits until nothing is sent any more, in either direction. */
async function quiet(streams: readonly FuzzStream[]): Promise<void> {
  let before = -1;
  for (let calm = 0; calm < calmTurns;) {
    await (calm % 3 === 2 ? pause(1) : nextIteration());
    const now = streams.reduce((sum, { progress }) => sum + progress, 0);
    calm = now === before ? calm + 1 : 0;
    before = now;
  }
}

const names = ['disk', '', 'other', 'disk/../x', `disk;token=${token}`, 'disk;token=x'];
const queries = ['base:allocation', 'base:', 'farbus:', session, 'farbus:session/x', 'qemu:'];

/** One option as a client may send it. */
export function option(
  random: Random,
  code: number = random.pick([1, 2, 3, 5, 6, 6, 7, 8, 9, 10, 10, 11, 4, 99]),
): Uint8Array {
  let data = new Uint8Array(0);
  const name = random.once(4) ? random.pick(names) : 'disk';
  if (code === Option.exportName) data = Uint8Array.from(text(name));
  if (code === Option.info || code === Option.go) {
    const infos = [0, 1, 2, 3].filter(() => random.once(2));
    data = Uint8Array.from(join(string(name), pack([infos.length, 2], ...infos.map((info) => [info, 2] as const))));
  }
  if (code === Option.listMetaContext || code === Option.setMetaContext) {
    const asked = Array.from({ length: random.below(4) }, () => random.pick(queries));
    data = Uint8Array.from(join(string(name), pack([asked.length, 4]), ...asked.map(string)));
  }
  return join(pack([0x49484156454f5054n, 8], [code, 4], [data.length, 4]), data);
}

export function request(random: Random, extended: boolean): Uint8Array {
  const command = random.pick([0, 0, 1, 1, 3, 4, 5, 6, 7, 7, 2, 8, 9].slice(0, random.once(8) ? 13 : 10));
  let flags = random.once(4) ? random.below(64) & ~CommandFlag.payloadLength : 0;
  // Files are served byte by byte; what is not is read and written back.
  const unit = random.once(3) ? 1 : 512;
  let length = command === NbdCommand.flush ? 0 : random.below(maxLength / unit) * unit;
  const offset = command === NbdCommand.flush ? 0 : random.below((exportSize - length) / unit) * unit;
  let payload = new Uint8Array(0);
  if (command === NbdCommand.write) payload = new Uint8Array(length).fill(random.below(poison));
  if (extended && command === NbdCommand.blockStatus && random.once(2)) {
    const ids = Array.from({ length: random.below(4) }, () => [1 + random.below(2), 4] as const);
    payload = Uint8Array.from(pack([length, 8], ...ids));
    length = payload.length;
  }
  const cookie = BigInt(random.next());
  if (!extended) {
    return join(pack([0x25609513, 4], [flags, 2], [command, 2], [cookie, 8], [offset, 8], [length, 4]), payload);
  }
  if (payload.length > 0) flags |= CommandFlag.payloadLength;
  return join(pack([0x21e41c71, 4], [flags, 2], [command, 2], [cookie, 8], [offset, 8], [length, 8]), payload);
}

/** A whole conversation that is right. */
function generate(random: Random): Input {
  const style = random.below(3);
  const messages: Uint8Array[] = [pack([random.once(16) ? random.below(4) : 3, 4])];
  while (random.once(4)) messages.push(option(random, random.pick([3, 6, 9, 5, 4])));
  if (style > 0) messages.push(option(random, style === 1 ? Option.structuredReply : Option.extendedHeaders));
  if (style > 0 && !random.once(4)) {
    const asked = random.once(2) ? ['base:allocation'] : ['base:allocation', session];
    const data = join(string('disk'), pack([asked.length, 4]), ...asked.map(string));
    messages.push(join(pack([0x49484156454f5054n, 8], [Option.setMetaContext, 4], [data.length, 4]), data));
  }
  const go = join(string('disk'), pack([1, 2], [3, 2]));
  messages.push(join(pack([0x49484156454f5054n, 8], [Option.go, 4], [go.length, 4]), go));
  for (let count = random.below(10); count > 0; count--) messages.push(request(random, style === 2));
  return messages;
}
