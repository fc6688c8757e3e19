/**
 * The script by which firmware puts ACPI tables into memory (QEMU, hw/acpi/bios-linker-loader.c):
 * `fw_cfg` file "etc/table-loader", entries of 128 bytes that allocate memory for other files, add
 * their addresses to fields, and compute checksums.
 */
import type { AcpiPart, AcpiTables } from './acpi.js';

const entryBytes = 128;
const nameBytes = 56;
const Command = { allocate: 1, addPointer: 2, addChecksum: 3 } as const;
/** Zones for memory: anywhere; or the BIOS area, which systems search for the RSDP. */
const Zone = { high: 1, low: 2 } as const;

const names: Readonly<Record<AcpiPart, string>> = { root: 'etc/acpi/rsdp', tables: 'etc/acpi/tables' };

/** The tables and their script as `fw_cfg` files. */
export function tableFiles(acpi: AcpiTables): [name: string, content: Uint8Array][] {
  const entries: Uint8Array[] = [
    entry(Command.allocate, [names.root], 4 + nameBytes, [16, 4], [Zone.low, 1]),
    entry(Command.allocate, [names.tables], 4 + nameBytes, [64, 4], [Zone.high, 1]),
    ...acpi.links.map(({ part, at, size }) =>
      entry(Command.addPointer, [names[part], names.tables], 4 + 2 * nameBytes, [at, 4], [size, 1]),
    ),
    ...acpi.sums.map(({ part, at, start, length }) =>
      entry(Command.addChecksum, [names[part]], 4 + nameBytes, [at, 4], [start, 4], [length, 4]),
    ),
  ];
  const script = new Uint8Array(entryBytes * entries.length);
  entries.forEach((bytes, i) => script.set(bytes, entryBytes * i));
  return [
    [names.root, acpi.root],
    [names.tables, acpi.tables],
    ['etc/table-loader', script],
  ];
}

/** @param fields values and sizes in bytes of the fields from `at` on; little-endian */
function entry(
  command: number,
  files: readonly string[],
  at: number,
  ...fields: readonly (readonly [value: number, size: number])[]
): Uint8Array {
  const bytes = new Uint8Array(entryBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, command, true);
  files.forEach((name, i) => bytes.set(new TextEncoder().encode(name), 4 + nameBytes * i));
  for (const [value, size] of fields) {
    if (size === 4) view.setUint32(at, value, true);
    else bytes[at] = value;
    at += size;
  }
  return bytes;
}
