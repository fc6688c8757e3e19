/**
 * Reads the tar archives in Debian packages.
 *
 * Specification: POSIX.1-1988 ustar, and GNU tar's headers "L" and "K" for long names ([GNU] tar
 * manual, "Basic Tar Format"). These are the formats that a Debian package may have (deb(5)).
 *
 * Left out: pax headers, sparse files, devices and FIFOs; they are refused.
 */

/** One entry of an archive. `path` has no leading "./" or slash; "" is the root. */
export interface TarEntry {
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'link';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** Contents of a file; empty for other types. */
  readonly data: Uint8Array;
  /** Target of a symbolic link, or the path that a hard link is another name of. */
  readonly target: string;
}

const blockBytes = 512;
const types: Readonly<Record<string, TarEntry['type']>> = {
  '0': 'file',
  '\0': 'file',
  '1': 'link',
  '2': 'symlink',
  '5': 'directory',
};
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Yields the entries of an archive in order.
 * @param parts The archive in parts, each of which need be valid only until the next one.
 * @param wanted Chooses the files whose contents are kept; the others' are empty. Default: all.
 * @throws RangeError if it is no tar archive or is truncated, has an unsupported type of entry, or
 * a path that leads out of the destination folder
 */
export async function* readTar(
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  wanted: (path: string) => boolean = () => true,
): AsyncGenerator<TarEntry> {
  const input = new Input(parts);
  let longName: string | undefined;
  let longTarget: string | undefined;
  for (;;) {
    const header = await input.take(blockBytes);
    if (header.every((byte) => byte === 0)) return;
    checkSum(header);
    const size = number(header, 124, 12);
    const padding = -size & (blockBytes - 1);
    const kind = String.fromCharCode(header[156]!);
    if (kind === 'L' || kind === 'K') {
      if (size > 4096) throw new RangeError('a name is too long');
      const name = text(await input.take(size), 0, size);
      await input.skip(padding);
      if (kind === 'L') longName = name;
      else longTarget = name;
      continue;
    }
    const type = types[kind];
    if (type === undefined) throw new RangeError(`an entry of the type ${JSON.stringify(kind)} is not known`);
    const prefix = text(header, 257, 6) === 'ustar' ? text(header, 345, 155) : '';
    const name = longName ?? (prefix === '' ? text(header, 0, 100) : `${prefix}/${text(header, 0, 100)}`);
    const target = longTarget ?? text(header, 157, 100);
    longName = longTarget = undefined;
    const path = pathOf(name);
    const keep = type === 'file' && wanted(path);
    const data = keep ? await input.take(size) : new Uint8Array(0);
    await input.skip(keep ? padding : size + padding);
    yield {
      path,
      type,
      mode: number(header, 100, 8) & 0o7777,
      uid: number(header, 108, 8),
      gid: number(header, 116, 8),
      mtime: number(header, 136, 12),
      data,
      target: type === 'link' ? pathOf(target) : target,
    };
  }
}

/** The bytes of the parts, one after the other. */
class Input {
  readonly #parts: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #part: Uint8Array = new Uint8Array(0);

  constructor(parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
    this.#parts = Symbol.asyncIterator in parts ? parts[Symbol.asyncIterator]() : parts[Symbol.iterator]();
  }

  /** A copy of the next `size` bytes. */
  async take(size: number): Promise<Uint8Array> {
    // Grows with the input: the size in a damaged header may be anything.
    const taken: Uint8Array[] = [];
    await this.#consume(size, (bytes) => taken.push(bytes.slice()));
    if (taken.length === 1) return taken[0]!;
    const all = new Uint8Array(size);
    let at = 0;
    for (const bytes of taken) {
      all.set(bytes, at);
      at += bytes.length;
    }
    return all;
  }

  async skip(size: number): Promise<void> {
    await this.#consume(size, () => undefined);
  }

  async #consume(size: number, use: (bytes: Uint8Array) => void): Promise<void> {
    for (let left = size; left > 0;) {
      if (this.#part.length === 0) {
        const next = await this.#parts.next();
        if (next.done) throw new RangeError('the archive ends early');
        this.#part = next.value;
      }
      const bytes = this.#part.subarray(0, left);
      use(bytes);
      this.#part = this.#part.subarray(bytes.length);
      left -= bytes.length;
    }
  }
}

/** Verifies the checksum: the sum of the header's bytes, with spaces for the checksum field. */
function checkSum(header: Uint8Array): void {
  let sum = 0;
  header.forEach((byte, index) => (sum += index >= 148 && index < 156 ? 0x20 : byte));
  if (sum !== number(header, 148, 8)) throw new RangeError('a header is damaged');
}

function number(header: Uint8Array, at: number, length: number): number {
  const digits = text(header, at, length).trim();
  if (!/^[0-7]*$/.test(digits)) throw new RangeError('a number is not octal');
  return digits === '' ? 0 : parseInt(digits, 8);
}

/** Text up to the first NUL. */
function text(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  try {
    return decoder.decode(end < 0 ? field : field.subarray(0, end));
  } catch {
    throw new RangeError('a name is not UTF-8');
  }
}

function pathOf(name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new RangeError(`${JSON.stringify(name)} leads out of the archive`);
  return parts.join('/');
}
