/**
 * The features that a guest's CPUID instruction reports (Intel SDM vol. 2, CPUID; AMD APM vol. 3,
 * appendix E): those of the host's processor that KVM supports, with one core for each virtual
 * processor of one package.
 *
 * Left out: nested virtualisation. A guest needs none, and it is the part of KVM with the most
 * faults that led out of a guest.
 */
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { Cpuid, Request } from './abi.js';

const maxEntries = 256;
/** Leaf 1, ECX: VMX; the local APIC's timer by TSC value; the system runs on a hypervisor. */
const vmx = 1 << 5;
const deadlineTimerBit = 1 << 24;
const hypervisor = 0x80000000;
/** Leaf 1, EDX: EBX has the number of APIC ids. */
const htt = 1 << 28;
/** Leaf 0x80000001, ECX: SVM. */
const svm = 1 << 2;

/** A virtual processor among all of its machine. */
export interface Place {
  readonly id: number;
  readonly processors: number;
  /** KVM has the local APIC's timer by TSC value, which its list of features leaves out. */
  readonly deadlineTimer: boolean;
}

/** One leaf and sub-leaf, and what it reports. */
interface Entry {
  readonly leaf: number;
  readonly index: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** The features that KVM supports on this host ([KVM] §4.46), as struct kvm_cpuid2. */
export function supportedCpuid(kvm: number): Uint8Array {
  const bytes = new Uint8Array(Cpuid.header + maxEntries * Cpuid.entry);
  new DataView(bytes.buffer).setUint32(0, maxEntries, true);
  machineCalls().exchange(kvm, Request.getSupportedCpuid, bytes);
  return bytes;
}

/** The features of one virtual processor, as struct kvm_cpuid2. */
export function cpuidOf(supported: Uint8Array, place: Place): Uint8Array {
  const entries = decode(supported).flatMap((entry) => entriesOf(entry, place));
  return encode(entries);
}

/** Leaves with the processor's name: 48 characters in EAX, EBX, ECX and EDX. */
const nameLeaves = [0x80000002, 0x80000003, 0x80000004];

/** The name of the host's processor; the name of its maker if it has none. */
export function processorName(supported: Uint8Array): string {
  const entries = decode(supported);
  const words = (leaf: number, fields: readonly ('eax' | 'ebx' | 'ecx' | 'edx')[]) => {
    const entry = entries.find((one) => one.leaf === leaf);
    return entry ? fields.map((field) => entry[field]) : [];
  };
  const text = (numbers: readonly number[]) =>
    String.fromCharCode(...new Uint8Array(Uint32Array.from(numbers).buffer))
      .replace(/[^ -~]/g, '')
      .trim();
  const name = text(nameLeaves.flatMap((leaf) => words(leaf, ['eax', 'ebx', 'ecx', 'edx'])));
  return name === '' ? text(words(0, ['ebx', 'edx', 'ecx'])) : name;
}

function entriesOf(entry: Entry, { id, processors, deadlineTimer }: Place): Entry[] {
  const { leaf, index, ebx, ecx, edx } = entry;
  /** Bits of an APIC id that tell the core. */
  const bits = 32 - Math.clz32(processors - 1);
  switch (leaf) {
    case 1: {
      const features = (ecx & ~vmx) | hypervisor | (deadlineTimer ? deadlineTimerBit : 0);
      const ids = ((id << 24) | (1 << (bits + 16)) | (ebx & 0xffff)) >>> 0;
      return [{ ...entry, ebx: ids, ecx: features >>> 0, edx: processors > 1 ? edx | htt : edx & ~htt }];
    }
    case 4: // caches: cores of the package, and no cache that they share
      return [{ ...entry, eax: entry.eax === 0 ? 0 : (((processors - 1) << 26) | (entry.eax & 0x3fff)) >>> 0 }];
    case 0x0b:
    case 0x1f: {
      if (index !== 0) return [];
      const level = { leaf, flags: 1, edx: id };
      return [
        { ...level, index: 0, eax: 0, ebx: 1, ecx: 0x100 }, // one thread for each core
        { ...level, index: 1, eax: bits, ebx: processors, ecx: 0x201 },
      ];
    }
    case 0x80000001:
      return [{ ...entry, ecx: (ecx & ~svm) >>> 0 }];
    case 0x80000008: // AMD: bits of the core's id, and cores - 1
      return [{ ...entry, ecx: (bits << 12) | (processors - 1) }];
    case 0x8000000a: // SVM's features
      return [{ ...entry, eax: 0, ebx: 0, ecx: 0, edx: 0 }];
    case 0x8000001f: // encrypted memory: this guest has none, and OVMF would look for its registers
      return [{ ...entry, eax: 0, ebx: 0, ecx: 0, edx: 0 }];
    case 0x8000001e: // AMD: APIC id, core, node
      return [{ ...entry, eax: id, ebx: id, ecx: 0 }];
    default:
      return [entry];
  }
}

function decode(bytes: Uint8Array): Entry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: view.getUint32(0, true) }, (_, i) => {
    const at = (field: number) => view.getUint32(Cpuid.header + i * Cpuid.entry + field, true);
    return {
      leaf: at(Cpuid.function),
      index: at(Cpuid.index),
      flags: at(Cpuid.flags),
      eax: at(Cpuid.eax),
      ebx: at(Cpuid.ebx),
      ecx: at(Cpuid.ecx),
      edx: at(Cpuid.edx),
    };
  });
}

function encode(entries: readonly Entry[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(Cpuid.header + entries.length * Cpuid.entry));
  view.setUint32(0, entries.length, true);
  entries.forEach(({ leaf, index, flags, eax, ebx, ecx, edx }, i) => {
    const set = (field: number, value: number) => view.setUint32(Cpuid.header + i * Cpuid.entry + field, value, true);
    set(Cpuid.function, leaf);
    set(Cpuid.index, index);
    set(Cpuid.flags, flags);
    set(Cpuid.eax, eax);
    set(Cpuid.ebx, ebx);
    set(Cpuid.ecx, ecx);
    set(Cpuid.edx, edx);
  });
  return new Uint8Array(view.buffer);
}
