/**
 * Inputs of the NBD fuzzers: messages in the order in which they are sent, and their mutation. An
 * input is kept as a line of text: messages in hex with spaces between them.
 */
import type { Random } from '../../../src/conformance/random.js';

export type Input = readonly Uint8Array[];

/** Longest input, in bytes, and most messages of one. */
const maxBytes = 1 << 15;
const maxMessages = 40;

/** A byte that no input has: memory is filled with it, and if a peer sees it, memory has leaked. */
export const poison = 0x5a;

/** Numbers at which something changes; above 2^32 as such. */
const numbers: readonly bigint[] = [
  0n, 1n, 2n, 3n, 7n, 8n, 12n, 16n, 24n, 255n, 256n, 511n, 512n, 513n, 1024n, 4095n, 4096n, 4097n, 65535n, 65536n, 65537n,
  (1n << 20n) - 1n, 1n << 20n, (1n << 25n) - 1n, 1n << 25n, (1n << 25n) + 1n, 33n << 20n, 1n << 30n, (1n << 31n) - 1n,
  1n << 31n, (1n << 32n) - 1n, 1n << 32n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n,
  0x25609513n, 0x21e41c71n, 0x67446698n, 0x668e33efn, 0x6e8a278cn,
]; // prettier-ignore
const widths = [1, 2, 2, 4, 4, 4, 8, 8];

export function encode(input: Input): string {
  return input.map((message) => Buffer.from(message).toString('hex')).join(' ');
}

export function decode(line: string): Input {
  return line.split(' ').map((hex) => Uint8Array.from(Buffer.from(hex, 'hex')));
}

export function sizeOf(input: Input): number {
  return input.reduce((sum, message) => sum + message.length, 0);
}

/** Makes `input` harmless to the checks: see {@link poison}. In place. */
export function cleaned(input: Input): Input {
  for (const message of input) {
    for (let at = message.indexOf(poison); at >= 0; at = message.indexOf(poison, at)) message[at] = poison + 1;
  }
  return input;
}

/**
 * Another input: one to four changes of `input`. `other` lends messages; `fresh` makes a new one.
 */
export function mutate(input: Input, other: Input, random: Random, fresh: () => Uint8Array): Input {
  let messages = [...input];
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    const at = random.below(messages.length || 1);
    const message = messages[at];
    switch (message === undefined ? 11 : random.below(14)) {
      case 0:
        messages.splice(at, 1);
        break;
      case 1:
        messages.splice(at, 0, message!);
        break;
      case 2:
        messages.splice(random.below(messages.length), 0, ...messages.splice(at, 1));
        break;
      case 3:
        messages = [...messages.slice(0, at), ...other.slice(random.below(other.length || 1))];
        break;
      case 4:
        messages[at] = message!.slice(0, random.below(message!.length + 1));
        break;
      case 5:
        messages[at] = Uint8Array.from([
          ...message!,
          ...Array.from({ length: random.below(40) }, () => random.below(256)),
        ]);
        break;
      case 6: {
        const cut = random.below(message!.length + 1);
        messages.splice(at, 1, message!.slice(0, cut), message!.slice(cut));
        break;
      }
      case 11:
        messages.splice(at, 0, fresh());
        break;
      default:
        messages[at] = withNumber(message!, random);
    }
  }
  messages.length = Math.min(messages.length, maxMessages);
  let left = maxBytes;
  return messages.filter((message) => (left -= message.length) >= 0);
}

/**
 * A number in it changed: mostly to one at which something changes, at places where numbers are.
 */
function withNumber(message: Uint8Array, random: Random): Uint8Array {
  if (message.length === 0) return message;
  const copy = message.slice();
  const width = Math.min(random.pick(widths), copy.length);
  let at = random.below(copy.length - width + 1);
  if (!random.once(4)) at -= at % Math.min(width, 2);
  if (random.once(4)) {
    copy[at]! ^= 1 << random.below(8);
    return copy;
  }
  let value = random.once(4) ? BigInt(random.next()) : random.pick(numbers);
  for (let byte = width - 1; byte >= 0; byte--) {
    copy[at + byte] = Number(value & 255n);
    value >>= 8n;
  }
  return copy;
}
