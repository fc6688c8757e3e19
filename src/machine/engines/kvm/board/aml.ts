/**
 * Encoders for the few parts of ACPI Machine Language that the board's DSDT needs (ACPI 6.5,
 * chapter 20), and for resource descriptors (§6.4).
 *
 * Left out: methods, fields, and all operators.
 */

export type Aml = readonly number[];

/** §20.2.4: the length of what follows, including itself. */
function withLength(content: Aml): number[] {
  const { length } = content;
  if (length + 1 < 0x40) return [length + 1, ...content];
  const bytes = length + 2 < 0x1000 ? 1 : length + 3 < 0x100000 ? 2 : 3;
  const total = length + 1 + bytes;
  const lead = (bytes << 6) | (total & 0xf);
  return [lead, ...Array.from({ length: bytes }, (_, i) => (total >>> (4 + 8 * i)) & 0xff), ...content];
}

/** §20.2.2: a path of names of up to four letters: "\\_SB", "PCI0". */
function path(text: string): number[] {
  const root = text.startsWith('\\');
  const name = root ? text.slice(1) : text;
  return [...(root ? [0x5c] : []), ...name.padEnd(4, '_')].map((c) => (typeof c === 'number' ? c : c.charCodeAt(0)));
}

export function integer(value: number): Aml {
  if (value === 0 || value === 1) return [value];
  if (value < 0x100) return [0x0a, value];
  if (value < 0x10000) return [0x0b, ...little(value, 2)];
  return [0x0c, ...little(value, 4)];
}

export function scope(name: string, ...content: readonly Aml[]): Aml {
  return [0x10, ...withLength([...path(name), ...content.flat()])];
}

export function device(name: string, ...content: readonly Aml[]): Aml {
  return [0x5b, 0x82, ...withLength([...path(name), ...content.flat()])];
}

export function named(name: string, value: Aml): Aml {
  return [0x08, ...path(name), ...value];
}

export function pack(...elements: readonly Aml[]): Aml {
  return [0x12, ...withLength([elements.length, ...elements.flat()])];
}

/** §19.3.4 EISAID: "PNP0A03" as its compressed number. */
export function eisaId(id: string): Aml {
  const letter = (i: number) => id.charCodeAt(i) - 0x40;
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  const product = parseInt(id.slice(3), 16);
  return [0x0c, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff];
}

/** A resource template: a buffer of descriptors and the end tag (§6.4.2.9). */
export function resources(...descriptors: readonly Aml[]): Aml {
  const bytes = [...descriptors.flat(), 0x79, 0];
  return [0x11, ...withLength([...integer(bytes.length), ...bytes])];
}

/** §6.4.2.5: I/O ports, 16-bit decode. */
export function ports(start: number, length: number): Aml {
  return [0x47, 1, ...little(start, 2), ...little(start, 2), 1, length];
}

/** §6.4.2.1: an interrupt line of the PC, edge-triggered, high. */
export function interrupt(line: number): Aml {
  return [0x22, ...little(1 << line, 2)];
}

/** §6.4.3.5: ranges that a bridge passes on. */
export function busNumbers(first: number, last: number): Aml {
  return wordRange(2, 0, first, last);
}

export function portRange(first: number, last: number): Aml {
  return wordRange(1, 3, first, last);
}

export function memoryRange(first: number, last: number): Aml {
  const numbers = [0, first, last, 0, last - first + 1];
  return [0x87, 23, 0, 0, 0x0c, 1, ...numbers.flatMap((value) => little(value, 4))];
}

function wordRange(type: number, flags: number, first: number, last: number): Aml {
  const numbers = [0, first, last, 0, last - first + 1];
  return [0x88, 13, 0, type, 0x0c, flags, ...numbers.flatMap((value) => little(value, 2))];
}

function little(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
}
