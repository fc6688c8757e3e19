import { describe, expect, it } from 'vitest';
import { Steps, type Step } from '../../src/base/steps.js';
import { installedHandler } from '../../src/machine/descriptor-table.js';
import { TrapHandler, type GuardedDevice, type Trap } from '../../src/machine/trap.js';
import { TestMemory } from '../support/guest-memory.js';

/** A device with a command register at offset 4 and another register at offset 8. */
class TestDevice implements GuardedDevice {
  readonly name = 'test';
  readonly base = 0xfe000000;
  readonly size = 0x1000;
  readonly seen: { offset: number; size: number; value: number; trap?: Trap | undefined }[] = [];

  issuesCommand(offset: number): boolean {
    return offset === 4;
  }

  read(offset: number, size: number): number {
    return offset + size;
  }

  write(offset: number, size: number, value: number, trap?: Trap): void {
    this.seen.push({ offset, size, value, trap });
  }
}

describe('the client protection interrupt 300 ([SYS] fig. 6)', () => {
  it('303: a write that issues commands goes to the device, with its trap', () => {
    const trap = new TrapHandler(new Steps());
    const device = new TestDevice();
    trap.guard(device);
    expect(trap.write(0xfe000004, 4, 77)).toBe('command');
    expect(device.seen[0]).toMatchObject({ offset: 4, size: 4, value: 77, trap: { address: 0xfe000004, value: 77 } });
    expect(trap.counts).toEqual({ reads: 0, writes: 1, commands: 1, unclaimed: 0 });
  });

  it("a device's other registers go to the device", () => {
    const trap = new TrapHandler(new Steps());
    const device = new TestDevice();
    trap.guard(device);
    expect(trap.write(0xfe000008, 1, 5)).toBe('register');
    expect(device.seen[0]!.trap).toBeUndefined();
    expect(trap.read(0xfe000010, 2)).toBe(0x12);
    expect(trap.counts).toEqual({ reads: 1, writes: 1, commands: 0, unclaimed: 0 });
  });

  it('304: an address that no device owns reads as an empty bus', () => {
    const trap = new TrapHandler(new Steps());
    const device = new TestDevice();
    trap.guard(device);
    expect(trap.write(0xfe001000, 4, 1)).toBe('unclaimed');
    expect([1, 2, 4].map((size) => trap.read(0xfe001000, size))).toEqual([0xff, 0xffff, 0xffffffff]);
    expect(trap.read(0xfe000ffe, 4)).toBe(0xffffffff); // half of it lies behind the device
    expect(device.seen).toEqual([]);
    expect(trap.counts.unclaimed).toBe(5);
  });

  it('324: guards each address once', () => {
    const trap = new TrapHandler(new Steps());
    trap.guard(new TestDevice());
    expect(() => trap.guard(new TestDevice())).toThrow(RangeError);
  });

  it('reports the steps of a command that a trap issued', () => {
    const steps = new Steps();
    const seen: Step[] = [];
    steps.add({ step: (step) => seen.push(step) });
    new TrapHandler(steps).attribute(9, { address: 0xfe000004, value: 3, time: 12 });
    expect(seen.map(({ traceId, id, time }) => [traceId, id, time])).toEqual([
      [9, '213', 12],
      [9, '214', 12],
      [9, '303', 12],
    ]);
  });
});

describe("302: the operating system's own handler, read from its descriptor table", () => {
  const gate = (memory: TestMemory, at: number, handler: number) => {
    const view = memory.data(at, 8);
    view.setUint16(0, handler & 0xffff, true);
    view.setUint16(4, 0x8e00, true);
    view.setUint16(6, handler >>> 16, true);
  };
  const cpu = { idtBase: 0x3000n, idtLimit: 0x7ff, cr0: 1, cr3: 0x1000, cr4: 0, efer: 0 };

  it('without paging', () => {
    const memory = new TestMemory(1 << 20);
    expect(installedHandler(memory, cpu, 14)).toBeUndefined();
    gate(memory, 0x3000 + 14 * 8, 0xc1234567);
    expect(installedHandler(memory, cpu, 14)).toBe(0xc1234567n);
    expect(installedHandler(memory, { ...cpu, idtLimit: 14 * 8 }, 14)).toBeUndefined();
    expect(installedHandler(memory, { ...cpu, cr0: 0 }, 14)).toBeUndefined();
  });

  it('through 32-bit page tables, and not where they lead nowhere', () => {
    const memory = new TestMemory(1 << 20);
    const paged = { ...cpu, cr0: 0x80000001, idtBase: 0xff801000n };
    memory.data(0x1000 + 0x3fe * 4, 4).setUint32(0, 0x2001, true);
    memory.data(0x2000 + 4, 4).setUint32(0, 0x4001, true);
    gate(memory, 0x4000 + 14 * 8, 0xc0de0000);
    expect(installedHandler(memory, paged, 14)).toBe(0xc0de0000n);
    memory.data(0x2000 + 4, 4).setUint32(0, 0xfffff001, true); // a page that is not RAM
    expect(installedHandler(memory, paged, 14)).toBeUndefined();
    memory.data(0x1000 + 0x3fe * 4, 4).setUint32(0, 0, true);
    expect(installedHandler(memory, paged, 14)).toBeUndefined();
  });

  it('through PAE page tables', () => {
    const memory = new TestMemory(1 << 20);
    const paged = { ...cpu, cr0: 0x80000001, cr4: 0x20, idtBase: 0xff801000n };
    memory.data(0x1000 + 3 * 8, 4).setUint32(0, 0x5001, true);
    memory.data(0x5000 + 0x1fc * 8, 4).setUint32(0, 0x6001, true);
    memory.data(0x6000 + 8, 4).setUint32(0, 0x7001, true);
    gate(memory, 0x7000 + 13 * 8, 0xdeadbee0);
    expect(installedHandler(memory, paged, 13)).toBe(0xdeadbee0n);
  });

  it('through the four levels of a 64-bit system', () => {
    const memory = new TestMemory(1 << 20);
    const idtBase = 0xffffffff81001000n;
    const long = { ...cpu, cr0: 0x80000001, cr4: 0x20, efer: 0x500, idtBase, idtLimit: 0xfff };
    memory.data(0x1000 + 511 * 8, 4).setUint32(0, 0x5003, true);
    memory.data(0x5000 + 510 * 8, 4).setUint32(0, 0x6003, true);
    memory.data(0x6000 + 8 * 8, 4).setUint32(0, 0x7003, true);
    memory.data(0x7000 + 8, 4).setUint32(0, 0x8003, true);
    gate(memory, 0x8000 + 14 * 16, 0x81234560);
    memory.data(0x8000 + 14 * 16 + 8, 4).setUint32(0, 0xffffffff, true);
    expect(installedHandler(memory, long, 14)).toBe(0xffffffff81234560n);
    // A page of 2 MiB instead of the last table.
    memory.data(0x6000 + 8 * 8, 4).setUint32(0, 0x0083, true);
    gate(memory, 0x1000 + 13 * 16, 0x8123);
    expect(installedHandler(memory, long, 13)).toBe(0x8123n);
    memory.data(0x5000 + 510 * 8, 4).setUint32(0, 0x6002, true);
    expect(installedHandler(memory, long, 14)).toBeUndefined();
  });
});
