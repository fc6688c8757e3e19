/**
 * Reads tar archives as dpkg-deb outputs them.
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
 * Yields the entries of `archive` in order.
 * @throws RangeError if it is no tar archive or is truncated, has an unsupported type of entry, or
 * a path that leads out of the destination folder
 */
export function* readTar(archive: Uint8Array): Generator<TarEntry> {
  let longName: string | undefined;
  let longTarget: string | undefined;
  for (let at = 0; at + blockBytes <= archive.length;) {
    const header = archive.subarray(at, at + blockBytes);
    if (header.every((byte) => byte === 0)) return;
    checkSum(header);
    const size = number(header, 124, 12);
    const data = archive.subarray(at + blockBytes, at + blockBytes + size);
    if (data.length < size) throw new RangeError('the archive ends early');
    at += blockBytes + Math.ceil(size / blockBytes) * blockBytes;
    const kind = String.fromCharCode(header[156]!);
    if (kind === 'L' || kind === 'K') {
      if (size > 4096) throw new RangeError('a name is too long');
      if (kind === 'L') longName = text(data, 0, size);
      else longTarget = text(data, 0, size);
      continue;
    }
    const type = types[kind];
    if (type === undefined) throw new RangeError(`an entry of the type ${JSON.stringify(kind)} is not known`);
    const prefix = text(header, 257, 6) === 'ustar' ? text(header, 345, 155) : '';
    const name = longName ?? (prefix === '' ? text(header, 0, 100) : `${prefix}/${text(header, 0, 100)}`);
    const target = longTarget ?? text(header, 157, 100);
    longName = longTarget = undefined;
    yield {
      path: pathOf(name),
      type,
      mode: number(header, 100, 8) & 0o7777,
      uid: number(header, 108, 8),
      gid: number(header, 116, 8),
      mtime: number(header, 136, 12),
      data: type === 'file' ? data : new Uint8Array(0),
      target: type === 'link' ? pathOf(target) : target,
    };
  }
  throw new RangeError('the archive has no end');
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
