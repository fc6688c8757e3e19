/**
 * A guest without an operating system for the KVM engine: a ROM whose program makes the accesses
 * that a test has listed, on two processors at once. It runs in 32-bit protected mode without
 * paging, so any KVM runs it.
 */

/** One access, or a wait. `at` is an address or a port. */
export interface Access {
  readonly kind: AccessKind;
  readonly at: number;
  readonly value: number;
}

export type AccessKind = (typeof kinds)[number];

const kinds = [
  'write8',
  'write16',
  'write32',
  'read8',
  'read16',
  'read32',
  'out8',
  'out16',
  'out32',
  'in8',
  'in16',
  'in32',
  // Several accesses by one instruction: `value` is their number, at most 63.
  'fill',
  'copyFrom',
  'insert',
  'increment',
  // Until (memory at `at`) & `value` is not 0, or is 0.
  'waitSet',
  'waitClear',
] as const;

/** Size of the ROM in bytes. */
const romSize = 0x40000;
const romStart = 2 ** 32 - romSize;
/** The last 64 KiB, which 16-bit code can reach: segment 0xf000. */
const lastAt = romSize - 0x10000;
const gdtAt = lastAt + 0x100;
const codeAt = lastAt + 0x200;
const tableAt = lastAt + 0x400;
const accessSize = 12;
/** Largest number of accesses of both processors. */
export const mostAccesses = Math.floor(lastAt / accessSize);
/** Each processor writes 1 at its own address when it has made all of its accesses. */
export const doneAt = [0x500, 0x504] as const;
/** Where `copyFrom` puts its bytes. */
const copiedTo = 0x100000;

const dword = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** The instructions of each kind, with the address in EDX, and the value in ECX. */
const handlers: Readonly<Record<AccessKind, readonly number[]>> = {
  write8: [0x88, 0x0a],
  write16: [0x66, 0x89, 0x0a],
  write32: [0x89, 0x0a],
  read8: [0x8a, 0x02],
  read16: [0x66, 0x8b, 0x02],
  read32: [0x8b, 0x02],
  out8: [0x89, 0xc8, 0xee],
  out16: [0x89, 0xc8, 0x66, 0xef],
  out32: [0x89, 0xc8, 0xef],
  in8: [0xec],
  in16: [0x66, 0xed],
  in32: [0xed],
  // mov edi, edx; and ecx, 63; rep stosd
  fill: [0x89, 0xd7, 0x83, 0xe1, 0x3f, 0xf3, 0xab],
  copyFrom: [0x89, 0xd6, 0xbf, ...dword(copiedTo), 0x83, 0xe1, 0x3f, 0xf3, 0xa5],
  insert: [0xbf, ...dword(copiedTo), 0x83, 0xe1, 0x3f, 0xf3, 0x6c], // rep insb
  increment: [0xf0, 0xff, 0x02],
  waitSet: [0x85, 0x0a, 0x74, 0xfc],
  waitClear: [0x85, 0x0a, 0x75, 0xfc],
};

/** A ROM whose processors make these accesses. The second processor begins at once with its own. */
export function accessRom([first, second]: readonly [readonly Access[], readonly Access[]]): Uint8Array {
  if (first.length + second.length > mostAccesses) throw new RangeError('these are too many accesses for the ROM');
  const rom = new Uint8Array(romSize);
  const view = new DataView(rom.buffer);
  [...first, ...second].forEach(({ kind, at, value }, i) => {
    view.setUint32(i * accessSize, kinds.indexOf(kind), true);
    view.setUint32(i * accessSize + 4, at, true);
    view.setUint32(i * accessSize + 8, value, true);
  });
  const descriptor = (access: number) => [0xff, 0xff, 0, 0, 0, access, 0xcf, 0];
  rom.set([...descriptor(0x9b), ...descriptor(0x93), ...[23, 0], ...dword(romStart + gdtAt)], gdtAt + 8);
  const pointer = (gdtAt - lastAt + 24) & 0xffff;
  // lgdt; set CR0.PE; a far jump to the 32-bit code. Both processors begin here.
  const mode = [
    0x2e,
    0x66,
    0x0f,
    0x01,
    0x16,
    pointer & 0xff,
    pointer >> 8,
    0x0f,
    0x20,
    0xc0,
    0x0c,
    1,
    0x0f,
    0x22,
    0xc0,
  ];
  rom.set([...mode, 0x66, 0xea, ...dword(romStart + codeAt), 8, 0], lastAt);
  rom.set([0xe9, 0x0d, 0x00], romSize - 16); // jmp to it from the reset vector
  rom.set(program(first.length, second.length, view), codeAt);
  return rom;
}

/** Writes the handlers and their table. Returns the program before them. */
function program(first: number, second: number, view: DataView): number[] {
  const list = (from: number, count: number) => {
    const at = romStart + from * accessSize;
    return [0xbb, ...dword(at), 0xbd, ...dword(at + count * accessSize)]; // mov ebx; mov ebp
  };
  const store = (at: number, value: number) => [0xc7, 0x05, ...dword(at), ...dword(value)];
  const starts = [
    ...store(0xfee000f0, 0x1ff), // switches the local APIC on
    ...store(0xfee00300, 0xc4500), // INIT, to all others
    ...store(0xfee00300, 0xc46f0), // start at 0xf0000
    ...store(0xfee00300, 0xc46f0),
  ];
  const one = [...starts, ...list(0, first), 0xbc, ...dword(doneAt[0])];
  const code = [
    ...[0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xfc], // data segments; cld
    ...list(first, second),
    ...[0xbc, ...dword(doneAt[1])], // mov esp: string instructions need the other registers
    ...[0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0xf6, 0xc4, 1], // is it the first? (APIC base, bit 8)
    ...[0x74, one.length, ...one],
  ];
  const next = code.length;
  const body = [
    ...[0x39, 0xeb, 0x73, 0], // cmp ebx, ebp; jae end
    ...[0x8b, 0x03, 0x8b, 0x53, 0x04, 0x8b, 0x4b, 0x08, 0x83, 0xc3, accessSize],
    ...[0xff, 0x24, 0x85, ...dword(romStart + tableAt)], // jmp [table + 4 * eax]
  ];
  body[3] = body.length - 4;
  code.push(...body);
  // The end: says so again and again, because a device may still write to memory.
  code.push(0xc7, 0x04, 0x24, ...dword(1), 0xeb, 0xf7);
  kinds.forEach((kind, i) => {
    view.setUint32(tableAt + 4 * i, romStart + codeAt + code.length, true);
    code.push(...handlers[kind]);
    const after = code.length + 5;
    code.push(0xe9, ...dword(next - after));
  });
  if (code.length > tableAt - codeAt) throw new RangeError('the program is too long');
  return code;
}
