/**
 * The board's ACPI tables (ACPI 6.5, chapter 5): RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT. They
 * tell the operating system the processors, the interrupt controllers, the PCI bus with its
 * interrupt lines, the serial port, the clock, and how to switch off and reset.
 *
 * Left out: sleep states but S5, thermal zones, events, the power management timer.
 */
import * as aml from './aml.js';
import { uartBase, uartInterrupt, uartPorts } from './uart.js';

/** Guest-physical place of the tables: the BIOS area, which systems search for the RSDP. */
export const tablesAt = 0xe0000;
/**
 * I/O ports of the power management registers: events (4 bytes), control (2 bytes), and the timer,
 * which only UEFI uses.
 */
export const powerPorts = { event: 0x600, control: 0x604, timer: 0x608 } as const;
/** Value of SLP_TYP in the control register that switches the computer off (\_S5): QEMU's. */
export const sleepTypeOff = 0;
/** I/O port and value of a reset: the reset control register of Intel's chipsets. */
export const resetPort = 0xcf9;
export const resetValue = 0x06;

const localApicAt = 0xfee00000;
const ioApicAt = 0xfec00000;
const systemControlInterrupt = 9;
/** Memory that PCI functions may have: below the I/O APIC. */
export const pciWindow = { first: 0xfd000000, last: 0xfebfffff } as const;

export interface AcpiBoard {
  readonly processors: number;
  /** Interrupt controller input of INTA# of the function in each of the 32 slots. */
  readonly inputOf: (slot: number) => number;
}

/** The RSDP, or the other tables. */
export type AcpiPart = 'root' | 'tables';

/**
 * Tables that are not at their place yet. Fields that hold the address of a table hold its offset
 * in `tables`, and fields with a checksum hold 0.
 */
export interface AcpiTables {
  readonly root: Uint8Array;
  /** All tables but the RSDP; to be placed at a multiple of 64. */
  readonly tables: Uint8Array;
  /** Fields that hold an address of `tables`: `size` bytes at offset `at` of `part`. */
  readonly links: readonly { readonly part: AcpiPart; readonly at: number; readonly size: number }[];
  /** Fields of one byte that make the sum of `length` bytes from `start` 0. */
  readonly sums: readonly {
    readonly part: AcpiPart;
    readonly at: number;
    readonly start: number;
    readonly length: number;
  }[];
}

export function acpiTables(board: AcpiBoard): AcpiTables {
  const area = new Uint8Array(0x10000);
  const links: AcpiTables['links'][number][] = [];
  const sums: AcpiTables['sums'][number][] = [];
  let next = 0;
  /** @param pointers offset and size of the fields of the table that hold another one's address */
  const place = (bytes: Uint8Array, pointers: readonly (readonly [at: number, size: number])[] = []): number => {
    const at = Math.ceil(next / 64) * 64;
    area.set(bytes, at);
    next = at + bytes.length;
    for (const [field, size] of pointers) links.push({ part: 'tables', at: at + field, size });
    return at;
  };
  const placeTable = (bytes: Uint8Array, pointers?: readonly (readonly [at: number, size: number])[]): number => {
    const start = place(bytes, pointers);
    sums.push({ part: 'tables', at: start + 9, start, length: bytes.length });
    return start;
  };
  const dsdt = placeTable(table('DSDT', 2, Uint8Array.from(definitions(board))));
  const facs = place(facsTable());
  const fadt = placeTable(fadtTable(dsdt, facs), [
    [36, 4],
    [40, 4],
    [132, 8],
    [140, 8],
  ]);
  const madt = placeTable(madtTable(board.processors));
  // Old systems and loaders read the RSDT, whose pointers have 32 bits.
  const [rsdt, xsdt] = ([4, 8] as const).map((size) => {
    const pointers = new Uint8Array(2 * size);
    [fadt, madt].forEach((at, i) => new DataView(pointers.buffer).setUint32(i * size, at, true));
    return placeTable(table(size === 4 ? 'RSDT' : 'XSDT', 1, pointers), [
      [36, size],
      [36 + size, size],
    ]);
  }) as [number, number];
  links.push({ part: 'root', at: 16, size: 4 }, { part: 'root', at: 24, size: 8 });
  sums.push({ part: 'root', at: 8, start: 0, length: 20 }, { part: 'root', at: 32, start: 0, length: 36 });
  return { root: rootPointer(rsdt, xsdt), tables: area.slice(0, next), links, sums };
}

/** The tables' bytes, to be put at {@link tablesAt}. The RSDP is their beginning. */
export function placedTables({ root, tables, links, sums }: AcpiTables): Uint8Array {
  const offset = { root: 0, tables: 64 };
  const bytes = new Uint8Array(offset.tables + tables.length);
  bytes.set(root);
  bytes.set(tables, offset.tables);
  const view = new DataView(bytes.buffer);
  for (const { part, at } of links) {
    const field = offset[part] + at;
    view.setUint32(field, view.getUint32(field, true) + tablesAt + offset.tables, true);
  }
  for (const { part, at, start, length } of sums) {
    const from = offset[part] + start;
    bytes[offset[part] + at] = checksum(bytes.subarray(from, from + length));
  }
  return bytes;
}

/** §5.2.6: the header of a table, without its checksum. */
function table(signature: string, revision: number, content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(36 + content.length);
  const view = new DataView(bytes.buffer);
  text(bytes, 0, signature);
  view.setUint32(4, bytes.length, true);
  bytes[8] = revision;
  text(bytes, 10, 'FARBUS');
  text(bytes, 16, 'FARBUSPC');
  view.setUint32(24, 1, true);
  text(bytes, 28, 'FARB');
  view.setUint32(32, 1, true);
  bytes.set(content, 36);
  return bytes;
}

/** §5.2.5.3 */
function rootPointer(rsdt: number, xsdt: number): Uint8Array {
  const bytes = new Uint8Array(36);
  const view = new DataView(bytes.buffer);
  text(bytes, 0, 'RSD PTR ');
  text(bytes, 9, 'FARBUS');
  bytes[15] = 2;
  view.setUint32(16, rsdt, true);
  view.setUint32(20, bytes.length, true);
  view.setUint32(24, xsdt, true);
  return bytes;
}

/** §5.2.10 */
function facsTable(): Uint8Array {
  const bytes = new Uint8Array(64);
  text(bytes, 0, 'FACS');
  bytes[4] = bytes.length;
  bytes[32] = 2;
  return bytes;
}

/** §5.2.9, of revision 3: the first 244 bytes. Offsets are those of the whole table. */
function fadtTable(dsdt: number, facs: number): Uint8Array {
  const whole = new Uint8Array(244);
  const view = new DataView(whole.buffer);
  const address = (at: number, port: number, bits: number) => {
    whole.set([1, bits, 0, bits === 8 ? 1 : 2], at); // §5.2.3.2: I/O port
    view.setBigUint64(at + 4, BigInt(port), true);
  };
  view.setUint32(36, facs, true);
  view.setUint32(40, dsdt, true);
  view.setUint16(46, systemControlInterrupt, true);
  view.setUint32(56, powerPorts.event, true);
  view.setUint32(64, powerPorts.control, true);
  whole[88] = 4;
  whole[89] = 2;
  view.setUint16(96, 0x65, true); // no C2 and C3: latencies above the limits
  view.setUint16(98, 0x3e9, true);
  whole[108] = 0x32; // the century's place in the clock's memory
  view.setUint16(109, 0x0005, true); // legacy devices, no VGA; no keyboard controller
  // WBINVD works; C1; no power button, no sleep button; reset register
  view.setUint32(112, 0x01 | 0x04 | 0x10 | 0x20 | 0x400, true);
  address(116, resetPort, 8);
  whole[128] = resetValue;
  view.setBigUint64(132, BigInt(facs), true);
  view.setBigUint64(140, BigInt(dsdt), true);
  address(148, powerPorts.event, 32);
  address(172, powerPorts.control, 16);
  return table('FACP', 3, whole.subarray(36));
}

/** §5.2.12 */
function madtTable(processors: number): Uint8Array {
  const entries: number[] = [];
  const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
  for (let id = 0; id < processors; id++) entries.push(0, 8, id, id, ...u32(1));
  entries.push(1, 12, processors, 0, ...u32(ioApicAt), ...u32(0));
  // §5.2.12.7: LINT1 of all processors is the non-maskable interrupt.
  entries.push(4, 6, 0xff, 0, 0, 1);
  return table('APIC', 3, Uint8Array.from([...u32(localApicAt), ...u32(1), ...entries]));
}

/** The DSDT's content. */
function definitions({ inputOf }: AcpiBoard): aml.Aml {
  const routes = Array.from({ length: 31 }, (_, i) => i + 1).map((slot) =>
    aml.pack(aml.integer(slot * 0x10000 + 0xffff), aml.integer(0), aml.integer(0), aml.integer(inputOf(slot))),
  );
  const bus = aml.device(
    'PCI0',
    aml.named('_HID', aml.eisaId('PNP0A03')),
    aml.named('_UID', aml.integer(0)),
    aml.named(
      '_CRS',
      aml.resources(
        aml.busNumbers(0, 0),
        aml.ports(0xcf8, 8),
        aml.portRange(0x0000, 0x0cf7),
        aml.portRange(0x0d00, 0xffff),
        aml.memoryRange(pciWindow.first, pciWindow.last),
      ),
    ),
    aml.named('_PRT', aml.pack(...routes)),
  );
  const serial = aml.device(
    'COM1',
    aml.named('_HID', aml.eisaId('PNP0501')),
    aml.named('_UID', aml.integer(1)),
    aml.named('_CRS', aml.resources(aml.ports(uartBase, uartPorts), aml.interrupt(uartInterrupt))),
  );
  const clock = aml.device(
    'RTC0',
    aml.named('_HID', aml.eisaId('PNP0B00')),
    aml.named('_CRS', aml.resources(aml.ports(0x70, 2), aml.interrupt(8))),
  );
  const off = aml.pack(aml.integer(sleepTypeOff), aml.integer(0), aml.integer(0), aml.integer(0));
  return [...aml.scope('\\_SB', bus, serial, clock), ...aml.named('\\_S5', off)];
}

function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

function text(bytes: Uint8Array, at: number, value: string): void {
  for (let i = 0; i < value.length; i++) bytes[at + i] = value.charCodeAt(i);
}
