/**
 * Makes a function of a Linux kernel module do nothing: for the lab of kvm-lab.ts, where QEMU's
 * emulated processor cannot do what the function would have it do.
 *
 * Specification: ELF-64 Object File Format, version 1.5. Left out: 32-bit modules, and modules
 * whose functions begin with ENDBR64.
 */

/** Section header's fields (ELF-64, figure 3), with the offsets of the symbol's (figure 4). */
interface Section {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

const symbolTable = 2;
const symbolSize = 24;
const functionType = 2;

/** `call __fentry__`, which the kernel replaces when it loads the module. */
const fentryLength = 5;
const call = 0xe8;
const ret = 0xc3;

const signatureMark = '~Module signature appended~\n';

/**
 * The module with `ret` as the first instruction of the function `name`, which must return nothing,
 * and without its signature, which would be wrong.
 * @throws Error if the module has no such function
 */
export function withoutFunction(module: Uint8Array, name: string): Uint8Array {
  const bytes = Buffer.from(module);
  const sections = sectionsOf(bytes);
  const at = functionAt(bytes, sections, name);
  if (bytes[at] !== call) throw new Error(`the function ${name} does not begin with a call of __fentry__`);
  bytes[at + fentryLength] = ret;
  const signed = bytes.subarray(-signatureMark.length).toString('latin1') === signatureMark;
  return signed ? bytes.subarray(0, -signatureMark.length) : bytes;
}

function sectionsOf(bytes: Buffer): Section[] {
  const start = Number(bytes.readBigUInt64LE(40));
  const [size, count] = [bytes.readUInt16LE(58), bytes.readUInt16LE(60)];
  return Array.from({ length: count }, (_, i) => {
    const header = bytes.subarray(start + i * size);
    return {
      type: header.readUInt32LE(4),
      offset: Number(header.readBigUInt64LE(24)),
      size: Number(header.readBigUInt64LE(32)),
      link: header.readUInt32LE(40),
    };
  });
}

/** Place of a function in the file. */
function functionAt(bytes: Buffer, sections: readonly Section[], name: string): number {
  const table = sections.find(({ type }) => type === symbolTable)!;
  const names = sections[table.link]!.offset;
  const wanted = Buffer.from(`${name}\0`);
  for (let at = table.offset; at < table.offset + table.size; at += symbolSize) {
    const nameAt = names + bytes.readUInt32LE(at);
    const isFunction = (bytes[at + 4]! & 15) === functionType;
    if (isFunction && bytes.subarray(nameAt, nameAt + wanted.length).equals(wanted))
      return sections[bytes.readUInt16LE(at + 6)]!.offset + Number(bytes.readBigUInt64LE(at + 8));
  }
  throw new Error(`the module has no function ${name}`);
}
