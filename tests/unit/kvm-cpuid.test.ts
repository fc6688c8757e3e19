/** The features that a KVM guest's processors report. */
import { describe, expect, it } from 'vitest';
import { cpuidOf } from '../../src/machine/engines/kvm/cpuid.node.js';

/** struct kvm_cpuid2 with these rows: leaf, index, eax, ebx, ecx, edx. */
function table(rows: readonly (readonly number[])[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 + 40 * rows.length));
  view.setUint32(0, rows.length, true);
  rows.forEach(([leaf, index, ...registers], i) => {
    view.setUint32(8 + 40 * i, leaf!, true);
    view.setUint32(12 + 40 * i, index!, true);
    registers.forEach((value, r) => view.setUint32(20 + 40 * i + 4 * r, value, true));
  });
  return new Uint8Array(view.buffer);
}

function rows(bytes: Uint8Array): number[][] {
  const view = new DataView(bytes.buffer);
  return Array.from({ length: view.getUint32(0, true) }, (_, i) =>
    [0, 4, 12, 16, 20, 24].map((at) => view.getUint32(8 + 40 * i + at, true)),
  );
}

const host = table([
  [1, 0, 0x60fb1, 0x12345678, 0xffffffff, 0xffffffff],
  [4, 0, 0xfc004121, 1, 2, 3],
  [7, 0, 0, 1, 2, 3],
  [0x0b, 0, 9, 9, 9, 9],
  [0x0b, 1, 9, 9, 9, 9],
  [0x80000001, 0, 1, 2, 0xffffffff, 4],
  [0x80000008, 0, 1, 2, 0x7077, 4],
  [0x8000000a, 0, 1, 2, 3, 4],
  [0x8000001e, 0, 77, 77, 77, 77],
]);

describe('the features of a processor', () => {
  const of = (id: number, processors: number) => rows(cpuidOf(host, { id, processors, deadlineTimer: true }));

  it('tell each processor its number among all, in every form', () => {
    const third = of(2, 4);
    expect(third[0]![3]).toBe(0x02045678);
    expect(third[0]![5]! & (1 << 28)).not.toBe(0);
    expect(third[1]![2]! >>> 26).toBe(3);
    expect(third.filter(([leaf]) => leaf === 0x0b)).toEqual([
      [0x0b, 0, 0, 1, 0x100, 2],
      [0x0b, 1, 2, 4, 0x201, 2],
    ]);
    expect(third.find(([leaf]) => leaf === 0x80000008)![4]).toBe(0x2003);
    expect(third.find(([leaf]) => leaf === 0x8000001e)!.slice(2, 5)).toEqual([2, 2, 0]);
  });

  it('name a hypervisor, but none that the guest could be itself', () => {
    const only = of(0, 1);
    expect(only[0]![4]! >>> 31).toBe(1);
    expect(only[0]![4]! & (1 << 5)).toBe(0);
    expect(only.find(([leaf]) => leaf === 0x80000001)![4]! & (1 << 2)).toBe(0);
    expect(only.find(([leaf]) => leaf === 0x8000000a)!.slice(2)).toEqual([0, 0, 0, 0]);
    expect(only[0]![5]! & (1 << 28)).toBe(0);
  });

  it('leave the others as they are', () => {
    expect(of(1, 2).find(([leaf]) => leaf === 7)).toEqual([7, 0, 0, 1, 2, 3]);
  });
});
