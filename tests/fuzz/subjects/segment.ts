/**
 * AoE targets as a subject of fuzzing: a server with an `aoe:` listener, composed as the command
 * line composes it, on a UDP segment; hostile stations send it frames. Whatever comes, it answers a
 * good station, and each request has one answer at most.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { putAta, putHeader } from '../../../src/protocol/aoe/wire.js';
import { join } from '../harness/bytes.js';
import { Composed, exportSize, possibleCompositions, type Composition } from '../harness/compositions.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import type { Random } from '../../../src/conformance/random.js';

const shelf = 1;
/** Batches after which another composition is served. */
const batchesOfOne = 100;
/** How long a good station asks again and again, in ms: only a hang reaches it. */
const patienceMs = 20_000;
const askMs = 50;
const station = Uint8Array.of(2, 0, 0, 0, 0, 1);
const everyone = new Uint8Array(6).fill(0xff);
const maxFrame = 1514;

class Station {
  readonly composed: Composed;
  readonly #socket: Socket;
  readonly #port: number;
  readonly name: string;
  batches = 0;
  /** Frames that have come; and a tag that is waited for. */
  got = 0;
  tooLong = 0;
  #waiting = new Map<number, () => void>();

  private constructor(name: string, composed: Composed, socket: Socket, port: number) {
    this.name = name;
    this.composed = composed;
    this.#socket = socket;
    this.#port = port;
    socket.on('message', (frame) => {
      this.got++;
      if (frame.length > maxFrame) this.tooLong++;
      if (frame.length >= 24) this.#waiting.get(frame.readUInt32BE(20))?.();
    });
  }

  static async open(composition: Composition): Promise<Station> {
    const socket = createSocket('udp4').bind(0, '127.0.0.1');
    const other = createSocket('udp4').bind(0, '127.0.0.1');
    await Promise.all([once(socket, 'listening'), once(other, 'listening')]);
    const { port } = other.address() as AddressInfo;
    await new Promise<void>((resolve) => other.close(resolve));
    const segment = `udp:127.0.0.1:${port}/127.0.0.1:${(socket.address() as AddressInfo).port}?mtu=1500`;
    const composed = await Composed.open(composition, undefined, { listen: [`aoe:${shelf}.0@${segment}`] });
    return new Station(composition.name, composed, socket, port);
  }

  send(frame: Uint8Array): void {
    this.#socket.send(frame, this.#port, '127.0.0.1');
  }

  /** Asks the target of the slot until it answers. @returns whether it does. */
  async answers(slot: number, tag: number): Promise<boolean> {
    const frame = ata(tag, slot, 0x24, 0, 1);
    for (const end = Date.now() + patienceMs; Date.now() < end;) {
      const answered = new Promise<boolean>((resolve) => this.#waiting.set(tag, () => resolve(true)));
      this.send(frame);
      if (await Promise.race([answered, pause(askMs).then(() => false)])) return true;
    }
    return false;
  }

  async close(): Promise<void> {
    const wrong = await this.composed.close();
    this.#socket.close();
    if (wrong !== undefined) throw new Error(`${this.name}: ${wrong}`);
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** An ATA command as a frame. */
function ata(
  tag: number,
  slot: number,
  command: number,
  lba: number,
  count: number,
  data = new Uint8Array(0),
): Uint8Array {
  const frame = new Uint8Array(36);
  putHeader(frame, everyone, station, { shelf, slot, command: 0, tag });
  const write = [0x30, 0x34].includes(command);
  putAta(frame, { flags: write ? 0x41 : 0x40, feature: 0, count, command, lba, generation: 0 });
  return join(frame, data);
}

/** A frame that a station may send. Its tag is one that a good station never has. */
function frame(random: Random): Uint8Array {
  const tag = random.below(1 << 20);
  const slot = random.once(8) ? random.pick([1, 2, 255]) : 0;
  const lba = random.below(exportSize / 512 + 4);
  const count = 1 + random.below(2);
  switch (random.below(6)) {
    case 0: {
      const query = new Uint8Array(24 + 8 + random.below(64));
      putHeader(query, everyone, station, { shelf: random.once(2) ? 0xffff : shelf, slot, command: 1, tag });
      query.set([0, random.below(8), 0, 0, 0, 0x10 | random.below(5), 0, random.below(16)], 24);
      return query;
    }
    case 1: {
      const lists = new Uint8Array(24 + 4 + 8 * random.below(4));
      putHeader(lists, everyone, station, { shelf, slot, command: 2 + random.below(2), tag });
      lists.set([random.below(3), 0, 0, (lists.length - 28) / 8], 24);
      for (let at = 28; at < lists.length; at += 8) lists.set([0, random.below(3), ...station], at);
      return lists;
    }
    case 2:
      return ata(tag, slot, random.pick([0x34, 0x30]), lba, count, new Uint8Array(count * 512).fill(random.below(90)));
    case 3:
      return ata(tag, slot, random.pick([0xec, 0xe5, 0xe7, 0xea, 0xef, 0x40, 0x42]), lba, count);
    default:
      return ata(tag, slot, random.pick([0x24, 0x20, 0x25]), lba, count);
  }
}

let current: Station | undefined;
let possible: Composition[] = [];
let tag = 1 << 24;

export const segment: Subject = {
  name: 'segment',
  batch: 16,
  generate: (random) => Array.from({ length: 1 + random.below(6) }, () => frame(random)),
  message: frame,

  async open() {
    // `farbus serve` refuses one-writer and rate on segments, and tokens are a matter of NBD.
    const not = new Set(['one writer', 'one client', 'rate', 'token', 'metrics', 'removable']);
    possible = possibleCompositions().filter(({ name }) => !not.has(name));
  },

  async run(inputs, random) {
    current ??= await Station.open(random.pick(possible));
    const on = current;
    // Frames of one batch interact: all of them are the input.
    const fault = (what: string): FuzzError => new FuzzError(`${on.name}: ${what}`, inputs.flat());
    const before = on.got;
    let sent = 0;
    for (const input of inputs) {
      for (const message of input) {
        if (message.length === 0) continue;
        sent++;
        on.send(message);
      }
      // A socket has room for so many frames only.
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const slot of [0, 1]) if (!(await on.answers(slot, tag++))) throw fault(`slot ${slot} does not answer`);
    // Good requests, and answers of both targets to those that are for all.
    if (on.got - before > 2 * sent + 1000) throw fault('it says more than it is asked');
    if (on.tooLong > 0) throw fault('it sends frames that are too long');
    if (++on.batches >= batchesOfOne) {
      current = undefined;
      await on.close();
    }
    return inputs.map((input) => `${on.name} ${input.map(kindOf).join(' ')}`);
  },

  async close() {
    await current?.close();
    current = undefined;
  },
};

function kindOf(message: Uint8Array): string {
  return `${message[19] ?? ''}:${message[19] === 0 ? (message[27] ?? '') : ''}`;
}
