/**
 * Writes cpio archives in the "newc" format, which Linux takes as an initramfs.
 *
 * Specification: the Linux kernel's Documentation/driver-api/early-userspace/buffer-format.rst
 * ([INITRAMFS] below). Times, owners and inode numbers are fixed, so equal input gives equal
 * bytes.
 *
 * Left out: checksums ("070702"), hard links, block devices, owners other than root.
 */

/** One entry of an archive. `mode` has the permission bits only (0o755). */
export type CpioEntry =
  | { readonly type: 'file'; readonly mode: number; readonly data: Uint8Array }
  | { readonly type: 'directory'; readonly mode: number }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'character'; readonly mode: number; readonly major: number; readonly minor: number };

/** File type bits of a mode, <linux/stat.h>. */
const typeBits = { file: 0o100000, directory: 0o040000, symlink: 0o120000, character: 0o020000 } as const;

/** [INITRAMFS] c_magic; thirteen numbers of eight hexadecimal digits follow it. */
const magic = '070701';
const headerLength = 6 + 13 * 8;
/** The name that ends an archive. */
const trailer = 'TRAILER!!!';
/** Linux's PATH_MAX: the kernel skips entries with a longer name. */
const maxName = 4096;
/** The largest number that a header field holds. */
const maxField = 0xffffffff;

const encoder = new TextEncoder();

/**
 * Writes an archive of `entries`, whose keys are paths without a leading slash ("bin/busybox").
 * Missing parent directories are added with mode 755. Entries are sorted by path, parents first.
 *
 * @returns The archive's bytes; the length is a multiple of 4.
 * @throws RangeError for a path that is empty, absolute, too long or has an empty, "." or ".."
 * component or a NUL; for a path below an entry that is no directory; for a number that does not
 * fit
 */
export function cpioArchive(entries: ReadonlyMap<string, CpioEntry>): Uint8Array {
  const all = withParents(entries);
  const parts: Uint8Array[] = [];
  let inode = 0;
  for (const path of [...all.keys()].sort(byComponents)) {
    inode += 1;
    appendEntry(parts, path, all.get(path)!, inode);
  }
  append(parts, header({ inode: 0, mode: 0, links: 1, size: 0, major: 0, minor: 0, name: trailer }), new Uint8Array(0));
  return concatenate(parts);
}

function appendEntry(parts: Uint8Array[], path: string, entry: CpioEntry, inode: number): void {
  const data =
    entry.type === 'file'
      ? entry.data
      : entry.type === 'symlink'
        ? encoder.encode(checkedTarget(path, entry.target))
        : new Uint8Array(0);
  const permissions = entry.type === 'symlink' ? 0o777 : checkedMode(path, entry.mode);
  const device = entry.type === 'character' ? entry : { major: 0, minor: 0 };
  const fields = {
    inode,
    mode: typeBits[entry.type] | permissions,
    links: entry.type === 'directory' ? 2 : 1,
    size: data.length,
    major: device.major,
    minor: device.minor,
    name: path,
  };
  append(parts, header(fields), data);
}

interface Fields {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
  readonly name: string;
}

/** Header and name, padded to a multiple of 4 because the file's data must be aligned. */
function header(fields: Fields): Uint8Array {
  const name = encoder.encode(fields.name + '\0');
  const numbers = [
    fields.inode,
    fields.mode,
    0, // c_uid
    0, // c_gid
    fields.links,
    0, // c_mtime
    fields.size,
    0, // c_maj, c_min: the device that holds the file
    0,
    fields.major,
    fields.minor,
    name.length,
    0, // c_chksum: of "070702" only
  ];
  const bytes = new Uint8Array(padded(headerLength + name.length));
  bytes.set(encoder.encode(magic + numbers.map((value) => hex(fields.name, value)).join('')));
  bytes.set(name, headerLength);
  return bytes;
}

function hex(name: string, value: number): string {
  if (!Number.isInteger(value) || value < 0 || value > maxField) {
    throw new RangeError(`${value} does not fit into the archive's header of ${name}`);
  }
  return value.toString(16).padStart(8, '0');
}

function append(parts: Uint8Array[], head: Uint8Array, data: Uint8Array): void {
  parts.push(head);
  if (data.length === 0) return;
  parts.push(data, new Uint8Array(padded(data.length) - data.length));
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function withParents(entries: ReadonlyMap<string, CpioEntry>): Map<string, CpioEntry> {
  const all = new Map(entries);
  for (const path of entries.keys()) {
    checkPath(path);
    for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) {
      const parent = path.slice(0, slash);
      const there = all.get(parent);
      if (there === undefined) all.set(parent, { type: 'directory', mode: 0o755 });
      else if (there.type !== 'directory') throw new RangeError(`${path} lies below ${parent}, which is no directory`);
    }
  }
  return all;
}

function checkPath(path: string): void {
  const bad = path.split('/').some((part) => part === '' || part === '.' || part === '..');
  if (bad || path.includes('\0') || path === trailer) {
    throw new RangeError(`${JSON.stringify(path)} cannot be a path of an archive`);
  }
  if (encoder.encode(path).length >= maxName) throw new RangeError(`a path is longer than ${maxName - 1} bytes`);
}

function checkedTarget(path: string, target: string): string {
  if (target === '' || target.includes('\0') || encoder.encode(target).length >= maxName) {
    throw new RangeError(`the symbolic link ${path} has a target that cannot be written`);
  }
  return target;
}

function checkedMode(path: string, mode: number): number {
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) {
    throw new RangeError(`${path} has a mode beyond the permission bits`);
  }
  return mode;
}

/**
 * Compares paths so that a parent comes before its children: "/" sorts before all other characters.
 */
function byComponents(a: string, b: string): number {
  const x = a.replaceAll('/', '\0');
  const y = b.replaceAll('/', '\0');
  return x < y ? -1 : x > y ? 1 : 0;
}
