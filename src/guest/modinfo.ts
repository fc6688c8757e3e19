/**
 * Reads the `.modinfo` section of a Linux kernel module's ELF file.
 *
 * Specification: ELF header and section headers of the System V ABI (32-bit and 64-bit,
 * little-endian); the section is a sequence of NUL-terminated "key=value" strings (the kernel's
 * include/linux/moduleparam.h).
 *
 * Left out: the rest of the file, including its signature, which the guest's kernel checks.
 */

/**
 * The fields that decide what must be loaded with a module. Names are as {@link moduleName} writes
 * them.
 */
export interface ModuleInfo {
  readonly name: string;
  /** Modules whose symbols it uses. They must be loaded before it. */
  readonly depends: readonly string[];
  /** Modules or aliases to load before it if they exist ("softdep: pre:"). */
  readonly before: readonly string[];
  /**
   * Other names of the module ("fs-ext4", "crypto-crc32c"), including patterns of device ids
   * ("pci:v…*").
   */
  readonly aliases: readonly string[];
}

/** Maximum number of strings; no module has more. */
const maxStrings = 100_000;

/** A module's name as the kernel compares it: "-" equals "_" and is written "_". */
export function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/**
 * Reads the `.modinfo` section of a module.
 * @param fallbackName Name of the module if the section has none: the file's name without ".ko".
 * @throws RangeError if `file` is no little-endian ELF file with such a section
 */
export function readModuleInfo(file: Uint8Array, fallbackName: string): ModuleInfo {
  const strings = modinfoStrings(file);
  const all = (key: string): string[] =>
    strings.filter((text) => text.startsWith(key + '=')).map((text) => text.slice(key.length + 1));
  const list = (texts: readonly string[], separator: RegExp): string[] =>
    texts.flatMap((text) => text.split(separator)).filter((word) => word !== '');
  return {
    name: moduleName(all('name')[0] ?? fallbackName),
    depends: list(all('depends'), /,/).map(moduleName),
    before: list(all('softdep').map(preOf), /\s+/),
    aliases: all('alias'),
  };
}

/** The names after "pre:" of a softdep ("pre: crc32c post: other"). */
function preOf(softdep: string): string {
  return /(?:^|\s)pre:(.*?)(?:\spost:|$)/.exec(softdep)?.[1] ?? '';
}

function modinfoStrings(file: Uint8Array): string[] {
  const section = elfSection(file, '.modinfo');
  const strings = new TextDecoder().decode(section).split('\0', maxStrings);
  return strings.filter((text) => text !== '');
}

/** The bytes of one section of an ELF file. */
function elfSection(file: Uint8Array, name: string): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 64 || view.getUint32(0) !== 0x7f454c46 || file[5] !== 1) {
    throw new RangeError('not a little-endian ELF file');
  }
  // EI_CLASS. 64-bit offsets are read as 32 bits, because no module reaches 4 GiB.
  const wide = file[4] === 2;
  const table = view.getUint32(wide ? 0x28 : 0x20, true);
  const entrySize = view.getUint16(wide ? 0x3a : 0x2e, true);
  const count = view.getUint16(wide ? 0x3c : 0x30, true);
  const namesIndex = view.getUint16(wide ? 0x3e : 0x32, true);
  const range = (index: number): { nameAt: number; bytes: Uint8Array } => {
    const at = table + index * entrySize;
    const offset = view.getUint32(at + (wide ? 0x18 : 0x10), true);
    const size = view.getUint32(at + (wide ? 0x20 : 0x14), true);
    if (offset + size > file.length) throw new RangeError('an ELF section reaches beyond the end of its file');
    return { nameAt: view.getUint32(at, true), bytes: file.subarray(offset, offset + size) };
  };
  const names = range(namesIndex).bytes;
  for (let index = 1; index < count; index++) {
    const { nameAt, bytes } = range(index);
    const end = names.indexOf(0, nameAt);
    if (end > nameAt && new TextDecoder().decode(names.subarray(nameAt, end)) === name) return bytes;
  }
  throw new RangeError(`an ELF file without a section ${name}`);
}
