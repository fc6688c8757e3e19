/**
 * Edits of what honest parties say: a way to fuzz any protocol without knowing it. An input's
 * messages are edits, each at a number of bytes after the one before. They are applied to a stream
 * of bytes as it passes, or to a file.
 */
import type { ByteStream } from '../../../src/network/stream.js';
import { join, pack } from './bytes.js';
import type { Input } from './input.js';
import type { Random } from '../../../src/conformance/random.js';

/**
 * How long a connection with an edit may be silent before it is ended, in ms: a message that was
 * cut leaves both waiting.
 */
const silentMs = 40;
/** The last three end a stream. */
const kinds = ['flip', 'set', 'drop', 'insert', 'double', 'number', 'end', 'reset', 'mute'] as const;

interface Edit {
  readonly kind: (typeof kinds)[number];
  readonly gap: number;
  readonly data: Uint8Array;
}

/** Edits of the first so many kinds can be made to a file. */
export const fileEdits = 6;

/** One edit as a message: its kind, the gap before it, and data. */
export function edit(random: Random, maxGap: number, kind = random.below(kinds.length)): Uint8Array {
  const gap = random.once(2) ? random.below(maxGap) : random.below(64);
  const length = random.once(8) ? random.below(600) : 1 + random.below(8);
  const value = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
  return join(
    pack([kind, 1], [gap, 2]),
    new Uint8Array(length).map(() => (random.once(3) ? random.below(256) : value)),
  );
}

/** A few edits. @param most How many of the kinds are used: those that end a stream come last. */
export function edits(random: Random, maxGap: number, most: number = kinds.length): Input {
  return Array.from({ length: 1 + random.below(4) }, () => edit(random, maxGap, random.below(most)));
}

function parse(message: Uint8Array): Edit {
  const [kind = 0, high = 0, low = 0, ...data] = message;
  return { kind: kinds[kind % kinds.length]!, gap: (high << 8) | low, data: Uint8Array.from(data) };
}

/** Edits in flight: what has passed is counted across calls. */
export class Editor {
  readonly #edits: Edit[];
  #until: number;
  /** An edit has ended the stream: 'end', 'reset' or 'mute'. */
  ended: 'end' | 'reset' | 'mute' | undefined;

  constructor(input: Input) {
    this.#edits = input.map(parse);
    this.#until = this.#edits[0]?.gap ?? Infinity;
  }

  /** An edit has been applied. */
  edited = false;

  /** Bytes that pass, edited. Edits that lie beyond come in later calls. */
  apply(bytes: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    let rest = bytes;
    while (this.ended === undefined && this.#until < rest.length) {
      parts.push(rest.subarray(0, this.#until));
      rest = this.#one(rest.subarray(this.#until), parts, this.#edits.shift()!);
      this.#until = this.#edits[0]?.gap ?? Infinity;
    }
    if (this.ended !== undefined) return join(...parts);
    this.#until -= rest.length;
    return join(...parts, rest);
  }

  /** From now on nothing is edited. */
  stop(): void {
    this.#edits.length = 0;
    this.#until = Infinity;
    this.edited = false;
    this.ended = undefined;
  }

  /** For another stream: edits go on there. */
  restart(): void {
    this.ended = undefined;
  }

  /** Applies one edit at the beginning of `rest`. Returns what has still to pass. */
  #one(rest: Uint8Array, parts: Uint8Array[], { kind, data }: Edit): Uint8Array {
    const length = Math.min(data.length, rest.length);
    this.edited = true;
    switch (kind) {
      case 'flip':
        parts.push(rest.slice(0, length).map((byte, i) => byte ^ (data[i]! || 1)));
        return rest.subarray(length);
      case 'set':
        parts.push(data.subarray(0, length));
        return rest.subarray(length);
      case 'drop':
        return rest.subarray(Math.min(rest.length, data.length * (1 + (data[0] ?? 0))));
      case 'insert':
        parts.push(data);
        return rest;
      case 'double':
        parts.push(rest.slice(0, Math.min(rest.length, 8 * data.length)));
        return rest;
      case 'number':
        // The last byte of a number at most eight bytes long: one more, or one less.
        parts.push(rest.slice(0, length).map((byte, i) => (i === length - 1 ? byte + (data[0]! % 2 ? 1 : 255) : byte)));
        return rest.subarray(length);
      default:
        this.ended = kind;
        return rest;
    }
  }
}

/** Edits what `stream`, the side of an honest party, writes. */
export function editWrites(stream: ByteStream, editor: Editor): void {
  const write = stream.write.bind(stream);
  let silence: ReturnType<typeof setTimeout> | undefined;
  stream.write = (chunks) => {
    if (editor.ended !== undefined) return true;
    const edited = editor.apply(join(...chunks));
    const more = write([edited]);
    if (editor.ended === 'end') stream.end();
    if (editor.ended === 'reset') stream.destroy();
    if (editor.edited) {
      clearTimeout(silence);
      silence = setTimeout(() => stream.destroy(), silentMs);
    }
    return more;
  };
}
