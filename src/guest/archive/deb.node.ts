/**
 * Reads Debian packages without programs of the system.
 *
 * Specification: deb(5), and ar(5) for the file around the two archives.
 *
 * Left out: parts packed with Zstandard or in old ways, which no package of Debian has.
 */
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { FarbusError, errnoOf, messageOf } from '../../base/errors.js';
import { nextIteration } from '../../base/event-loop.js';
import { readTar, type TarEntry } from './tar.js';
import { unpackXz } from './xz.js';

const magic = '!<arch>\n';
const headerBytes = 60;
/** How long the event loop may be kept waiting, in ms. */
const holdMs = 20;
/** Maximum unpacked size of an archive in bytes; no package of Debian reaches it. */
const maxUnpacked = 1 << 30;

/**
 * Yields the entries of a part of the package `file`: its files, or what dpkg has to know of it.
 * @param wanted Chooses the files whose contents are read; the others' are empty. Default: all.
 * @throws FarbusError if the package is damaged or cannot be read, or `signal` was aborted
 */
export async function* readDeb(
  file: string,
  part: 'data' | 'control',
  { wanted, signal }: { wanted?: ((path: string) => boolean) | undefined; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<TarEntry> {
  try {
    const package_ = await readFile(file);
    yield* readTar(unpacked(package_, part, signal), wanted);
  } catch (error) {
    if (error instanceof RangeError) {
      throw new FarbusError(`the package ${file} is damaged: ${messageOf(error)}`, { cause: error });
    }
    if (errnoOf(error) === undefined || error instanceof FarbusError) throw error;
    throw new FarbusError(`cannot read the package ${file} (${messageOf(error)})`, { cause: error });
  }
}

/** The unpacked archive, in parts. */
async function* unpacked(
  file: Uint8Array,
  part: 'data' | 'control',
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let total = 0;
  let turnAt = performance.now();
  for await (const bytes of decompressed(file, part)) {
    total += bytes.length;
    if (total > maxUnpacked) throw new RangeError('it is too large');
    yield bytes;
    if (performance.now() - turnAt < holdMs) continue;
    await new Promise<void>((resolve) => nextIteration(resolve));
    turnAt = performance.now();
    if (signal?.aborted) throw new FarbusError('unpacking a package was stopped');
  }
}

async function* decompressed(file: Uint8Array, part: string): AsyncGenerator<Uint8Array> {
  for (const [name, data] of members(file)) {
    if (name === `${part}.tar.xz`) return yield* unpackXz(data);
    if (name === `${part}.tar`) return yield data;
    if (name === `${part}.tar.gz`) return yield await unzip(data);
    if (name.startsWith(`${part}.tar.`)) throw new RangeError(`${name} is packed in a way that is not supported`);
  }
  throw new RangeError(`it has no ${part} archive`);
}

async function unzip(data: Uint8Array): Promise<Uint8Array> {
  return await promisify(gunzip)(data, { maxOutputLength: maxUnpacked }).catch(() => {
    throw new RangeError('the archive in it is damaged');
  });
}

/** The members of an ar archive. */
function* members(file: Uint8Array): Generator<[name: string, data: Uint8Array]> {
  const text = (at: number, length: number): string => Buffer.from(file.subarray(at, at + length)).toString('latin1');
  if (text(0, magic.length) !== magic) throw new RangeError('it is not a package');
  for (let at = magic.length; at < file.length;) {
    const name = text(at, 16).trimEnd().replace(/\/$/, '');
    const size = text(at + 48, 10).trim();
    const start = at + headerBytes;
    if (text(at + 58, 2) !== '`\n' || !/^\d+$/.test(size)) throw new RangeError('a header of it is wrong');
    const end = start + Number(size);
    if (end > file.length) throw new RangeError('it ends early');
    yield [name, file.subarray(start, end)];
    at = end + (end & 1);
  }
}
