/** The memory of a KVM guest: bounds of device accesses, and loading of a 64-bit kernel. */
import { describe, expect, it } from 'vitest';
import { loadPvh } from '../../src/machine/boot/pvh.js';
import { bytesOfPages, putPages } from '../../src/machine/engines/kvm/snapshot/memory-image.js';
import { machineCalls } from '../../src/linux/virtual-machine.node.js';
import { KvmMemory, lowMemoryEnd } from '../../src/machine/engines/kvm/memory.node.js';

const MiB = 2 ** 20;
const GiB = 2 ** 30;

describe("a device's view of memory", () => {
  it('never leaves RAM, whatever the address and length', () => {
    const memory = new KvmMemory(4 * GiB);
    const edges = [0, 0xa0000, 0x100000, lowMemoryEnd, 4 * GiB, 5 * GiB, 2 ** 32, 2 ** 40, 2 ** 53, NaN, -1, 0.5];
    const lengths = [0, 1, 4096, MiB, GiB, 2 ** 32, NaN, -1];
    for (const edge of edges) {
      for (const near of [-4096, -1, 0, 1, 4096]) {
        for (const length of lengths) {
          const address = edge + near;
          const end = address + length;
          const low = end <= lowMemoryEnd && (end <= 0xa0000 || address >= 0x100000);
          const high = address >= 4 * GiB && end <= 5 * GiB;
          const inside = Number.isInteger(address) && address >= 0 && length >= 0 && (low || high);
          const view = memory.view(address, length);
          expect(view !== undefined, `${address} ${length}`).toBe(inside);
          if (view) expect(view.length).toBe(length);
          // The address for system calls passes the same check.
          const place = memory.addressOf(address, length);
          expect(place !== undefined, `${address} ${length}`).toBe(inside);
          if (view && place !== undefined && length > 0) expect(machineCalls().addressOf(view)).toBe(BigInt(place));
        }
      }
    }
  });

  it('shows the same byte at the same address, below and above 4 GiB', () => {
    const memory = new KvmMemory(4 * GiB);
    memory.view(lowMemoryEnd - 1, 1)![0] = 1;
    memory.view(4 * GiB, 1)![0] = 2;
    memory.view(5 * GiB - 1, 1)![0] = 3;
    expect(memory.view(lowMemoryEnd - 2, 2)![1]).toBe(1);
    expect(memory.view(4 * GiB, 4096)![0]).toBe(2);
    expect(memory.view(5 * GiB - 4096, 4096)![4095]).toBe(3);
  });

  it('is placed at a page of this process, in one slot or two', () => {
    expect(new KvmMemory(64 * MiB).slots.map(({ guestAddress, length }) => [guestAddress, length])).toEqual([
      [0, 64 * MiB],
    ]);
    const slots = new KvmMemory(4 * GiB).slots;
    expect(slots.map(({ guestAddress, length }) => [guestAddress, length])).toEqual([
      [0, lowMemoryEnd],
      [4 * GiB, GiB],
    ]);
    expect(slots.every(({ processAddress }) => processAddress % 4096n === 0n)).toBe(true);
  });
});

describe('the memory in a snapshot', () => {
  it('is put back in runs that the memory can show, however many pages are used', () => {
    const runs: number[][] = [];
    const memory = {
      size: GiB,
      linear(offset: number, length: number) {
        runs.push([offset, length]);
        return { set: () => undefined } as unknown as Uint8Array;
      },
    };
    const bits = new Uint8Array(GiB / 4096 / 8).fill(0xff);
    const places: number[][] = [];
    const pages = { subarray: (from: number, to: number) => places.push([from, to - from]) };
    putPages(memory, bits, pages as unknown as Uint8Array);
    expect(runs).toEqual([0, 1, 2, 3].map((part) => [part * 256 * MiB, 256 * MiB]));
    expect(places).toEqual(runs);
    expect(bytesOfPages(memory, bits)).toBe(GiB);
    expect(new KvmMemory(4 * GiB).linear(3 * GiB - 1, 256 * MiB)).toHaveLength(256 * MiB);
  });
});

describe('loading a 64-bit kernel', () => {
  /** An ELF file with one segment of 16 bytes at 16 MiB, and a PVH note. */
  function kernel(options: { note?: boolean; address?: bigint } = {}): Uint8Array {
    const file = new Uint8Array(64 + 2 * 56 + 16 + 20);
    const view = new DataView(file.buffer);
    file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    view.setBigUint64(32, 64n, true);
    view.setUint16(54, 56, true);
    view.setUint16(56, options.note === false ? 1 : 2, true);
    const header = (at: number, type: number, offset: number, address: bigint, length: number) => {
      view.setUint32(at, type, true);
      view.setBigUint64(at + 8, BigInt(offset), true);
      view.setBigUint64(at + 24, address, true);
      view.setBigUint64(at + 32, BigInt(length), true);
      view.setBigUint64(at + 40, BigInt(length + 4096), true);
    };
    header(64, 1, 176, options.address ?? 0x1000000n, 16);
    header(120, 4, 192, 0n, 20);
    file.fill(0xab, 176, 192);
    view.setUint32(192, 4, true);
    view.setUint32(196, 4, true);
    view.setUint32(200, 18, true);
    file.set(Buffer.from('Xen\0'), 204);
    view.setUint32(208, 0x1000200, true);
    return file;
  }
  const image = (vmlinux: Uint8Array) => ({
    bzImage: new Uint8Array(0),
    vmlinux,
    commandLine: 'quiet',
    initramfs: Uint8Array.of(1, 2, 3),
  });

  it('puts it, its initramfs and its start_info into memory', () => {
    const memory = new KvmMemory(64 * MiB);
    const entry = loadPvh(memory, image(kernel()), 0xe0000);
    expect(entry.instructionPointer).toBe(0x1000200);
    const info = memory.view(entry.ebx!, 56)!;
    const view = new DataView(info.buffer, info.byteOffset, 56);
    expect(view.getUint32(0, true)).toBe(0x336ec578);
    expect(view.getBigUint64(32, true)).toBe(0xe0000n);
    const module = memory.view(Number(view.getBigUint64(16, true)), 16)!;
    const at = Number(new DataView(module.buffer, module.byteOffset).getBigUint64(0, true));
    expect([...memory.view(at, 3)!]).toEqual([1, 2, 3]);
    expect(memory.view(0x1000000, 1)![0]).toBe(0xab);
    expect(Buffer.from(memory.view(Number(view.getBigUint64(24, true)), 6)!).toString()).toBe('quiet\0');
  });

  it.each([
    ['no PVH entry', kernel({ note: false }), /no PVH entry/],
    ['a segment outside memory', kernel({ address: 0xffff_ffff_ffff_f000n }), /needs memory/],
    ['a file that is cut off', kernel().subarray(0, 100), /whole ELF file/],
    ['an empty file', new Uint8Array(0), /whole ELF file/],
  ])('refuses %s', (_, file, message) => {
    expect(() => loadPvh(new KvmMemory(64 * MiB), image(file), 0xe0000)).toThrow(message);
  });
});
