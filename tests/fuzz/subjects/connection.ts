/**
 * The NBD initiator as a subject of fuzzing: hostile servers. Whatever they send, nothing is
 * thrown, every request is answered once or handed back, a read that succeeded has all of its
 * bytes, and nothing beside its memory is touched. The first message of an input is the whole
 * handshake; what follows are replies.
 */
import { buffersOf } from '../../../src/base/buffers.js';
import { messageOf } from '../../../src/base/errors.js';
import type { ByteStream, StreamEvents } from '../../../src/network/stream.js';
import { Connection } from '../../../src/protocol/nbd/initiator/connection.js';
import { extentsOf } from '../../../src/protocol/nbd/initiator/extents.js';
import { factsOf } from '../../../src/protocol/nbd/initiator/facts.js';
import { PayloadPool } from '../../../src/protocol/nbd/initiator/payload-pool.js';
import { NbdRequest } from '../../../src/protocol/nbd/initiator/request.js';
import { NbdCommand, Info, Option, OptionReply, ReplyFlag, ReplyType } from '../../../src/protocol/nbd/spec.js';
import { join, pack, string, text } from '../harness/bytes.js';
import { poison, type Input } from '../harness/input.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import type { Random } from '../../../src/conformance/random.js';
import { nextIteration } from '../../support/event-loop.js';

const session = '01234567-89ab-4def-8123-456789abcdef';
const allocation = 1;
const diskSize = 1 << 20;
/** Bytes around the memory of reads that the initiator must not touch. */
const guard = 64;

class FuzzStream implements ByteStream {
  readonly peer = 'fuzz';
  readonly pending = 0;
  events!: StreamEvents;
  closed = false;
  attach(events: StreamEvents): void {
    this.events = events;
  }
  write(): boolean {
    return true;
  }
  pause(): void {
    // The subject feeds the stream itself, so there is nothing to pause.
  }
  resume(): void {
    // There is nothing to resume either.
  }
  end(): void {
    this.closed = true;
  }
  destroy(): void {
    this.closed = true;
  }
}

/** Reads, and one of everything else: their replies have cookies 1, 2, 3 … */
const asks = [
  { type: NbdCommand.read, offset: 512, length: 1024 },
  { type: NbdCommand.read, offset: 4096, length: 512 },
  { type: NbdCommand.write, offset: 0, length: 512 },
  { type: NbdCommand.blockStatus, offset: 0, length: 65536 },
  { type: NbdCommand.flush, offset: 0, length: 0 },
  { type: NbdCommand.writeZeroes, offset: 0, length: 4096 },
];

export const connection: Subject = {
  name: 'connection',
  generate,
  message: (random) => reply(random, random.below(3)),

  async run(inputs) {
    const runs = inputs.map((input) => {
      const stream = new FuzzStream();
      const { signal } = new AbortController();
      const options = {
        wish: { exportName: 'disk', session },
        id: 1,
        connectSeconds: 10,
        stallSeconds: 30,
        pool,
        signal,
      };
      const run: Run = { input, stream, connection: undefined, failure: '' };
      Connection.negotiate(stream, 'fuzz', options, signal).then(
        (connection) => (run.connection = connection),
        (error: unknown) => (run.failure = messageOf(error)),
      );
      feed(run, input[0] ?? new Uint8Array(0));
      return run;
    });
    await nextIteration();
    const afterwards = runs.map((run) => (run.connection ? converse(run, run.connection) : () => hangUp(run)));
    // Short requests leave with the others of their turn.
    await nextIteration();
    const ends = afterwards.map((one) => one());
    await nextIteration();
    return runs.map((run, index) => `${run.failure.replace(/\d+/g, 'N')}${ends[index]!()}`);
  },
};

function touched(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte !== poison) return true;
  return false;
}

const pool = new PayloadPool();

interface Run {
  readonly input: Input;
  readonly stream: FuzzStream;
  connection: Connection | undefined;
  failure: string;
}

function feed({ stream, input }: Run, bytes: Uint8Array): void {
  if (stream.closed) return;
  const chunk = bytes.slice();
  try {
    stream.events.data(chunk);
  } catch (error) {
    throw new FuzzError('it threw', input, error);
  }
  // A chunk is valid during the call only: a parser that keeps it is found out.
  chunk.fill(poison);
}

/** A handshake that is not over ends with the stream. */
function hangUp(run: Run): () => string {
  run.stream.events.closed();
  return () => {
    if (run.failure === '') throw new FuzzError('a handshake without an end', run.input);
    return '';
  };
}

const written = buffersOf(new Uint8Array(512));

/**
 * Asks everything; then the answers are fed, the stream is closed and what came of it is looked at.
 */
function converse(run: Run, connection: Connection): () => () => string {
  const { input, stream } = run;
  try {
    factsOf(connection.negotiated, 'disk', false);
  } catch (error) {
    run.failure = messageOf(error);
  }
  const answers: (string | undefined)[] = asks.map(() => undefined);
  const answer = (request: NbdRequest, what: string): void => {
    const index = requests.indexOf(request);
    if (answers[index] !== undefined) throw new FuzzError('a request answered twice', input);
    answers[index] = what;
  };
  const memory = asks.map(({ type, length }) =>
    new Uint8Array((type === NbdCommand.read ? length : 0) + 2 * guard).fill(poison),
  );
  const requests = asks.map((ask, index) => {
    const { type, length } = ask;
    const own = type === NbdCommand.read ? memory[index]!.subarray(guard, guard + length) : undefined;
    const buffers = type === NbdCommand.write ? written : own && buffersOf(own);
    const request = new NbdRequest(buffers ? { ...ask, buffers } : ask, () => undefined);
    request.done.catch(() => undefined);
    return request;
  });
  connection.start({
    answered: (request) => answer(request, request.error?.kind ?? 'ok'),
    room: () => undefined,
    lost: (_reason, unfinished) => unfinished.forEach((request) => answer(request, 'lost')),
  });
  for (const request of requests) connection.send(request);
  return () => {
    for (const message of input.slice(1)) feed(run, message);
    stream.events.closed();
    return () => {
      for (const [index, request] of requests.entries()) {
        const what = answers[index];
        if (what === undefined) throw new FuzzError('a request without an end', input);
        check(input, request, what, memory[index]!);
      }
      return answers.join(' ');
    };
  };
}

function check(input: Input, request: NbdRequest, what: string, memory: Uint8Array): void {
  if (touched(memory.subarray(0, guard)) || touched(memory.subarray(-guard))) {
    throw new FuzzError('memory beside that of a read was written', input);
  }
  if (what !== 'ok') return;
  if (request.type === NbdCommand.read && memory.subarray(guard, guard + request.length).includes(poison)) {
    throw new FuzzError('a read that succeeded without all of its bytes', input);
  }
  if (request.type === NbdCommand.blockStatus) {
    const extents = extentsOf(request.status!, request.offset, request.length, 512);
    let at = request.offset;
    for (const extent of extents) {
      if (extent.offset !== at || extent.length <= 0 || extent.length % 512 !== 0)
        throw new FuzzError('extents', input);
      at += extent.length;
    }
    if (at > request.offset + request.length) throw new FuzzError('extents beyond what was asked for', input);
  }
}

function optionReply(option: number, type: number, ...data: readonly Uint8Array[]): Uint8Array {
  const body = join(...data);
  return join(pack([0x3e889045565a9n, 8], [option, 4], [type, 4], [body.length, 4]), body);
}

/** A handshake that succeeds. `style`: 0 simple, 1 structured, 2 extended. */
function handshake(random: Random, style: number): Uint8Array {
  const { ack, errUnsupported, info, metaContext } = OptionReply;
  const parts = [pack([0x4e42444d41474943n, 8], [0x49484156454f5054n, 8], [3, 2])];
  parts.push(optionReply(Option.extendedHeaders, style === 2 ? ack : errUnsupported));
  if (style < 2) parts.push(optionReply(Option.structuredReply, style === 1 ? ack : errUnsupported));
  if (style > 0) {
    const meta = Option.setMetaContext;
    if (!random.once(4)) parts.push(optionReply(meta, metaContext, pack([allocation, 4]), text('base:allocation')));
    if (random.once(2)) {
      parts.push(optionReply(meta, metaContext, pack([2, 4]), text(`farbus:session/${session}/life`)));
    }
    parts.push(optionReply(meta, ack));
  }
  const flags = random.once(4) ? random.below(1 << 13) : 0x0d6d;
  parts.push(optionReply(Option.go, info, pack([Info.export, 2], [diskSize, 8], [flags, 2])));
  if (random.once(2)) {
    parts.push(optionReply(Option.go, info, pack([Info.blockSize, 2], [512, 4], [4096, 4], [1 << 25, 4])));
  }
  if (random.once(8)) parts.push(optionReply(Option.go, info, pack([Info.name, 2]), text('disk')));
  parts.push(optionReply(Option.go, ack));
  return join(...parts);
}

/** One reply, or a part of one, to one of the requests. */
function reply(random: Random, style: number, index = random.below(asks.length)): Uint8Array {
  const { type, offset, length } = asks[index]!;
  const cookie = (1n << 32n) + BigInt(index + 1);
  const chunk = (kind: number, payload: Uint8Array, flags: number = ReplyFlag.done): Uint8Array =>
    style === 2
      ? join(pack([0x6e8a278c, 4], [flags, 2], [kind, 2], [cookie, 8], [offset, 8], [payload.length, 8]), payload)
      : join(pack([0x668e33ef, 4], [flags, 2], [kind, 2], [cookie, 8], [payload.length, 4]), payload);
  const simple = (error: number, data = new Uint8Array(0)): Uint8Array =>
    join(pack([0x67446698, 4], [error, 4], [cookie, 8]), data);
  const error = random.once(6) ? random.pick([1, 5, 12, 22, 28, 75, 95, 108, 999]) : 0;
  if (style === 0) return simple(error, new Uint8Array(error === 0 && type === NbdCommand.read ? length : 0));
  if (error !== 0) {
    const said = string('no').subarray(2);
    if (random.once(3)) return chunk(ReplyType.errorOffset, join(pack([error, 4]), said, pack([offset, 8])));
    return chunk(ReplyType.error, join(pack([error, 4]), said));
  }
  if (type === NbdCommand.read) {
    const parts: Uint8Array[] = [];
    const pieces = random.pick([1, 1, 2, 4]);
    const size = length / pieces;
    for (let piece = 0; piece < pieces; piece++) {
      const at = offset + piece * size;
      const flags = piece === pieces - 1 ? ReplyFlag.done : 0;
      const hole = random.once(3);
      if (hole) parts.push(chunk(ReplyType.offsetHole, pack([at, 8], [size, 4]), flags));
      else parts.push(chunk(ReplyType.offsetData, join(pack([at, 8]), new Uint8Array(size)), flags));
    }
    return join(...parts);
  }
  if (type === NbdCommand.blockStatus) {
    const runs = Array.from({ length: 1 + random.below(4) }, () => [random.below(40) * 512 + 512, random.below(4)]);
    if (style === 1) {
      const fields = runs.flatMap(([run, flags]) => [[run!, 4] as const, [flags!, 4] as const]);
      return chunk(ReplyType.blockStatus, pack([allocation, 4], ...fields));
    }
    const fields = runs.flatMap(([run, flags]) => [[run!, 8] as const, [flags!, 8] as const]);
    return chunk(ReplyType.blockStatusExtended, pack([allocation, 4], [runs.length, 4], ...fields));
  }
  return style === 1 && random.once(2) ? simple(0) : chunk(ReplyType.none, new Uint8Array(0));
}

/** A whole conversation that is right, with answers to some of the requests. */
function generate(random: Random): Input {
  const style = random.below(3);
  const messages = [handshake(random, style)];
  const order = asks.map((_, index) => index).filter(() => !random.once(4));
  order.sort(() => random.below(3) - 1);
  for (const index of order) messages.push(reply(random, style, index));
  return messages;
}
