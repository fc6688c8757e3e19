/**
 * Web servers whose answers are cut, split, doubled, exchanged and edited, to the HTTP client of
 * our own (src/storage/http/direct): a read that succeeds has the right bytes, one that fails says
 * so by a BlockError, and all of them settle.
 */
import { expect, it } from 'vitest';
import { silent } from '../../src/base/log.js';
import { BlockError } from '../../src/block/errors.js';
import { Random } from '../../src/conformance/random.js';
import { HttpDisk } from '../../src/storage/http/device.js';
import { fakeServer, rangeAnswer, type FakeSocket } from '../support/http-answers.js';
import { inputsWanted, patience } from './harness/loop.js';

const runs = inputsWanted(400, 100_000);
const seed = Number(process.env['FARBUS_FUZZ_SEED'] ?? Date.now() % 1e9);
const content = new Uint8Array(200_000);
for (let at = 0; at < content.length; at++) content[at] = at * 31 + (at >> 8);

const edits: readonly [from: RegExp, to: string][] = [
  [/Content-Length: /, 'Content-Length: 1'],
  [/Content-Length: \d/, 'Content-Length: '],
  [/Content-Length:/, 'Content-Length: 0\r\nContent-Length:'],
  [/Content-Length:/, 'Transfer-Encoding: chunked\r\nContent-Length:'],
  [/bytes \d/, 'bytes 1'],
  [/\d\//, '0/'],
  [/\/\d/, '/9'],
  [/"1"/, '"2"'],
  [/HTTP\/1.1 206/, 'HTTP/1.1 503'],
  [/HTTP\/1.1 206/, 'HTTP/1.1 200'],
  [/HTTP\/1.1/, 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1'],
  [/ETag/, 'Connection: close\r\nETag'],
  [/\r\n\r\n/, '\r\n'],
  [/\r\n/, '\n'],
];

/** A fault in the answers that arrive together. */
function faulty(random: Random, answers: Buffer[]): Buffer[] {
  const at = random.below(answers.length);
  const answer = answers[at]!;
  switch (random.below(7)) {
    case 0:
      return [...answers.slice(0, at), answer.subarray(0, random.below(answer.length))];
    case 1:
      return answers.with(at, Buffer.concat([answer, answer]));
    case 2:
      return answers.toReversed();
    case 3:
      return answers.with(at, Buffer.from(Array.from({ length: random.below(3000) }, () => random.below(256))));
    case 4: {
      const head = Buffer.from(answer.subarray(0, answer.indexOf('\r\n\r\n') + 4));
      head[random.below(head.length)] = random.below(256);
      return answers.with(at, Buffer.concat([head, answer.subarray(head.length)]));
    }
    default: {
      const end = answer.indexOf('\r\n\r\n') + 4;
      const [from, to] = random.pick(edits);
      const head = Buffer.from(answer.toString('latin1', 0, end).replace(from, to), 'latin1');
      return answers.with(at, Buffer.concat([head, answer.subarray(end)]));
    }
  }
}

function serving(random: Random, faults: { left: number }): FakeSocket['answer'] {
  return (socket, ranges) => {
    let answers = ranges.map((range) => rangeAnswer(content, range));
    const isFaulty = faults.left > 0 && random.once(2);
    if (isFaulty) {
      faults.left--;
      answers = faulty(random, answers);
    }
    const all = Buffer.concat(answers);
    const most = random.pick([1, 7, 500, 70_000, 1 << 20]);
    for (let at = 0; at < all.length;) {
      const end = at + 1 + random.below(most === 1 && all.length > 3000 ? 500 : most);
      socket.feed(all.subarray(at, end));
      at = end;
    }
    // It may have sent less than it announced.
    if (isFaulty) socket.finish();
  };
}

it(
  'a read over HTTP that succeeds has the right bytes',
  async () => {
    let [right, failed] = [0, 0];
    for (let run = 0; run < runs; run++) {
      const random = new Random(seed + run);
      const faults = { left: 0 };
      const { pool, send } = fakeServer(serving(random, faults));
      const close = async (): Promise<void> => pool.close();
      const shown = 'http://host/a';
      const disk = await HttpDisk.open({ send, url: shown, shown, reconnectSeconds: 0, log: silent, close });
      faults.left = 1 + random.below(4);
      for (let step = 0; step < 4; step++) {
        const reads = Array.from({ length: 1 + random.below(8) }, async () => {
          const length = 1 + random.below(random.once(4) ? 100_000 : 5000);
          const offset = random.below(content.length - length);
          const bytes = Buffer.alloc(length);
          try {
            await disk.read(offset, bytes);
          } catch (error) {
            failed++;
            return expect(error, `seed ${seed + run}`).toBeInstanceOf(BlockError);
          }
          right++;
          const isRight = bytes.equals(content.subarray(offset, offset + length));
          expect(isRight, `seed ${seed + run}: read of ${length} at ${offset}`).toBe(true);
        });
        await Promise.all(reads);
      }
      await disk.close();
    }
    expect([right > 0, failed > 0]).toEqual([true, true]);
  },
  patience,
);
