/**
 * The NBD target as a subject of fuzzing: hostile clients, many at a time on one export. Whatever they send, nothing is
 * thrown, every connection ends when its client has gone, the device is asked for nothing that it has not, and what is
 * answered is well-formed and holds nothing but bytes of the export.
 */
import type { Buffers } from '../../../src/base/buffers.js';
import { ThrottledLogger } from '../../../src/base/log.js';
import { Exports } from '../../../src/export/exports.js';
import type { ByteStream, StreamEvents } from '../../../src/network/stream.js';
import { Command, CommandFlag, Option } from '../../../src/protocol/nbd/spec.js';
import { SlabPool, type Slab } from '../../../src/protocol/nbd/target/memory.js';
import { NbdTarget } from '../../../src/protocol/nbd/target/target.js';
import { MemoryDevice } from '../../../src/storage/memory.js';
import { join, pack, string, text } from './bytes.js';
import { poison, type Input } from './input.js';
import { FuzzError, type Subject } from './loop.js';
import type { Random } from './random.js';
import { judge } from './target-judge.js';

export const exportSize = 1 << 16;
const limits = { maxRequests: 16, maxBytes: 1 << 16, maxOptions: 64, maxOptionLength: 4096 };
/** Turns of the event loop after which a connection whose client has gone must be over. */
const maxTurns = 2000;
const exportFill = 0xa5;
const session = 'farbus:session/01234567-89ab-4def-8123-456789abcdef';

/** A disk that notes who asks it for what it has not, and that is late now and then. */
class StrictDevice extends MemoryDevice {
  bad = '';
  pending = 0;
  #count = 0;

  constructor() {
    super(new Uint8Array(exportSize).fill(exportFill), { blockSize: 512 });
  }

  protected override async doRead(offset: number, into: Buffers): Promise<void> {
    await this.#note(offset, into.length);
    await super.doRead(offset, into);
  }

  protected override async doWrite(offset: number, from: Buffers): Promise<void> {
    await this.#note(offset, from.length);
    await super.doWrite(offset, from);
  }

  protected override doReadNow(offset: number, into: Uint8Array): boolean {
    if (++this.#count % 2 === 0) return false;
    this.#check(offset, into.length);
    into.fill(exportFill);
    return true;
  }

  #check(offset: number, length: number): void {
    if (!(Number.isInteger(offset) && offset >= 0 && length > 0 && offset + length <= exportSize)) {
      this.bad = `asked for ${offset}+${length}`;
    }
  }

  async #note(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
    if (++this.#count % 16 !== 0) return;
    this.pending++;
    await new Promise((resolve) => setImmediate(resolve));
    this.pending--;
  }
}

/** Memory in which whatever was not written is known by its bytes. */
class PoisonedPool extends SlabPool {
  override take(length: number): Slab {
    const slab = super.take(length);
    if (slab.used === 0) slab.bytes.fill(poison);
    return slab;
  }
}

class FuzzStream implements ByteStream {
  readonly peer: string;
  readonly out: Uint8Array[] = [];
  outLength = 0;
  closed = false;
  /** Takes nothing, until the end. */
  blocked: boolean;
  events!: StreamEvents;
  readonly #toSend: Uint8Array[];
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

  /** Whether the target has not read all. */
  get unread(): boolean {
    return this.#toSend.length > 0 && !this.closed;
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

  feed(): void {
    if (this.#feeding) return;
    this.#feeding = true;
    while (!this.#paused && !this.closed && this.#toSend.length > 0) {
      // What was given is valid during the call only.
      const chunk = this.#toSend.shift()!.slice();
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

export const target: Subject = {
  name: 'target',
  generate,
  message: (random) => (random.once(3) ? option(random) : request(random, random.below(2) === 1)),

  async run(inputs, random) {
    const device = new StrictDevice();
    const exports = new Exports('life');
    exports.add({ name: 'disk', device, description: 'the disk' });
    const reasons = new Map<string, string>();
    const log = new ThrottledLogger(
      { log: (_level, line) => void reasons.set(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)) },
      0,
    );
    const pool = random.once(16) ? new PoisonedPool(1 << 20) : sharedPool;
    const peers = inputs.map((input, index) => {
      const stream = new FuzzStream(`p${index}`, input, random.once(8));
      return { input, stream, target: new NbdTarget(stream, { exports, pool, log, limits }) };
    });
    for (const { stream, input } of peers) {
      try {
        stream.feed();
      } catch (error) {
        throw new FuzzError('it threw', input, error);
      }
    }
    await turns(() => device.pending === 0 && peers.every(({ stream }) => !stream.unread || stream.blocked), 50);
    for (const { stream } of peers) stream.unblock();
    await turns(() => device.pending === 0 && peers.every(({ stream }) => !stream.unread), 50);
    const signatures = peers.map(({ stream, input }) => {
      const verdict = judge(join(...stream.out), stream.closed);
      if (verdict.wrong !== undefined) throw new FuzzError(verdict.wrong, input);
      return `${verdict.signature}${reasons.get(stream.peer) ?? ''}`;
    });
    const ends = peers.map(({ stream, target: one, input }) => {
      stream.closed = true;
      stream.events.closed();
      let over = false;
      void one.finished.then(() => (over = true));
      return { input, isOver: () => over };
    });
    await turns(() => ends.every(({ isOver }) => isOver()), maxTurns);
    for (const { input, isOver } of ends) if (!isOver()) throw new FuzzError('a connection does not end', input);
    if (device.bad !== '') throw new FuzzError(`the device was ${device.bad}`, inputs[0]!);
    return signatures;
  },
};

const sharedPool = new SlabPool(64 << 20);

/** Waits until a condition holds, for so many turns of the event loop at most. */
async function turns(condition: () => boolean, most: number): Promise<void> {
  await Promise.resolve();
  for (let turn = 0; turn < most && !condition(); turn++) await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
}

const names = ['disk', '', 'other', 'disk/../x'];
const queries = ['base:allocation', 'base:', 'farbus:', session, 'farbus:session/x', 'qemu:'];

function option(
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

function request(random: Random, extended: boolean): Uint8Array {
  const command = random.pick([0, 0, 1, 1, 3, 4, 5, 6, 7, 7, 2, 8, 9].slice(0, random.once(8) ? 13 : 10));
  let flags = random.once(4) ? random.below(64) & ~CommandFlag.payloadLength : 0;
  const blocks = random.below(20);
  let length = command === Command.flush ? 0 : blocks * 512;
  const offset = command === Command.flush ? 0 : random.below(exportSize / 512 - blocks) * 512;
  let payload = new Uint8Array(0);
  if (command === Command.write) payload = new Uint8Array(length).fill(random.below(poison));
  if (extended && command === Command.blockStatus && random.once(2)) {
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
