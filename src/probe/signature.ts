/** Probes described by data: content with a magic number, label and UUID at fixed offsets. */
import { content, type Content, type ContentKind, type ContentProbe } from './content.js';
import type { ProbeReader } from './reader.js';
import { diskText, uuidText, type TextEncoding } from './text.js';

/** Offsets are bytes from the start of the superblock at `base`. */
export interface Signature {
  readonly type: string;
  readonly kind?: ContentKind;
  /** Offset of the superblock from the start of the device or partition, in bytes. */
  readonly base: number;
  /** Alternative magic numbers, one of which must match. Text is ASCII. */
  readonly magic: readonly { readonly at: number; readonly bytes: string | readonly number[] }[];
  readonly label?: { readonly at: number; readonly length: number; readonly encoding?: TextEncoding };
  /** Offset of a UUID of 16 bytes, in the order in which it is written. */
  readonly uuid?: number;
  /** A UUID that is stored as text. */
  readonly uuidText?: { readonly at: number; readonly length: number };
}

/** The probe that a signature describes. */
export function signatureProbe(signature: Signature): ContentProbe {
  return async (reader) => ((await matches(reader, signature)) ? found(reader, signature) : undefined);
}

async function matches(reader: ProbeReader, { base, magic }: Signature): Promise<boolean> {
  for (const { at, bytes } of magic) {
    const wanted = typeof bytes === 'string' ? [...bytes].map((letter) => letter.charCodeAt(0)) : bytes;
    const got = await reader.bytes(base + at, wanted.length);
    if (got && wanted.every((byte, index) => byte === got[index])) return true;
  }
  return false;
}

async function found(reader: ProbeReader, signature: Signature): Promise<Content> {
  const { base, kind = 'filesystem', type, label, uuid, uuidText: text } = signature;
  const named = label && (await reader.bytes(base + label.at, label.length));
  const id = uuid === undefined ? undefined : await reader.bytes(base + uuid, 16);
  const written = text && (await reader.bytes(base + text.at, text.length));
  return content(
    kind,
    type,
    named && diskText(named, label.encoding),
    id ? uuidText(id) : written && diskText(written, 'latin1'),
  );
}
