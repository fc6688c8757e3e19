/** Kernel modules for tests: ELF files with only a `.modinfo` section. */

/** Makes a module with these strings in its `.modinfo` section, each "key=value". */
export function elfModule(strings: readonly string[], wide = false): Uint8Array {
  const names = Buffer.from('\0.shstrtab\0.modinfo\0');
  const facts = Buffer.from(strings.map((text) => text + '\0').join(''));
  const [headerSize, entrySize] = wide ? [64, 64] : [52, 40];
  const namesAt = headerSize;
  const factsAt = namesAt + names.length;
  const table = factsAt + facts.length;
  const file = Buffer.alloc(table + 3 * entrySize);
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  file.writeUInt32LE(table, wide ? 0x28 : 0x20);
  file.writeUInt16LE(entrySize, wide ? 0x3a : 0x2e);
  file.writeUInt16LE(3, wide ? 0x3c : 0x30);
  file.writeUInt16LE(1, wide ? 0x3e : 0x32);
  names.copy(file, namesAt);
  facts.copy(file, factsAt);
  const section = (index: number, name: string, offset: number, size: number): void => {
    const at = table + index * entrySize;
    file.writeUInt32LE(names.indexOf(name), at);
    file.writeUInt32LE(offset, at + (wide ? 0x18 : 0x10));
    file.writeUInt32LE(size, at + (wide ? 0x20 : 0x14));
  };
  section(1, '.shstrtab', namesAt, names.length);
  section(2, '.modinfo', factsAt, facts.length);
  return file;
}
