/**
 * Devices of the KVM engine for firmware, without KVM: `fw_cfg` by ports and by DMA, the script
 * that puts the ACPI tables into memory, and flash.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { acpiTables } from '../../src/machine/engines/kvm/board/acpi.js';
import { firmwareContent } from '../../src/machine/engines/kvm/board/firmware-content.js';
import { Flash } from '../../src/machine/engines/kvm/board/flash.js';
import { FwCfg } from '../../src/machine/engines/kvm/board/fw-cfg.js';

const MiB = 2 ** 20;
const processors = 3;
const tables = acpiTables({ processors, inputOf: () => 10 });
const content = firmwareContent({
  memory: [
    { start: 0, length: 3 * MiB },
    { start: 2 ** 32, length: MiB },
  ],
  processors,
  tables,
  order: [{ slot: 8 }, { slot: 10, port: 1 }],
});

function make(): { fwCfg: FwCfg; memory: Uint8Array } {
  const memory = new Uint8Array(MiB);
  const fwCfg = new FwCfg(content, (at, length) =>
    at + length <= memory.length ? memory.subarray(at, at + length) : undefined,
  );
  return { fwCfg, memory };
}

function item(fwCfg: FwCfg, selector: number, length: number): Buffer {
  fwCfg.write(0x510, 2, selector);
  return Buffer.from(Array.from({ length }, () => fwCfg.read(0x511, 1)));
}

/** The files that the directory lists. */
function listed(fwCfg: FwCfg): Map<string, { selector: number; size: number }> {
  const count = item(fwCfg, 0x19, 4).readUInt32BE();
  const directory = item(fwCfg, 0x19, 4 + 64 * count).subarray(4);
  return new Map(
    Array.from({ length: count }, (_, i) => {
      const entry = directory.subarray(64 * i, 64 * i + 64);
      const name = entry.subarray(8, entry.indexOf(0, 8)).toString();
      return [name, { size: entry.readUInt32BE(0), selector: entry.readUInt16BE(4) }];
    }),
  );
}

function file(fwCfg: FwCfg, name: string): Buffer {
  const { selector, size } = listed(fwCfg).get(name)!;
  return item(fwCfg, selector, size);
}

/** One DMA access. Returns the control word that it leaves. */
function dma(fwCfg: FwCfg, memory: Uint8Array, control: number, length: number, target: number): number {
  const view = new DataView(memory.buffer);
  view.setUint32(0x100, control);
  view.setUint32(0x104, length);
  view.setBigUint64(0x108, BigInt(target));
  fwCfg.write(0x514, 4, 0);
  fwCfg.write(0x518, 4, 0x00010000); // 0x100, big-endian
  return view.getUint32(0x100);
}

describe('fw_cfg by ports', () => {
  it('has the signature, both interfaces, and the facts', () => {
    const { fwCfg } = make();
    expect(item(fwCfg, 0, 6).toString()).toBe('QEMU\0\0');
    expect(item(fwCfg, 1, 4).readUInt32LE()).toBe(3);
    expect(item(fwCfg, 3, 8).readBigUInt64LE()).toBe(BigInt(4 * MiB));
    expect(item(fwCfg, 5, 2).readUInt16LE()).toBe(processors);
    expect(item(fwCfg, 0x7777, 2).readUInt16LE()).toBe(0);
  });

  it('has the files that firmware reads', () => {
    const { fwCfg } = make();
    expect(file(fwCfg, 'bootorder').toString()).toBe('/pci@i0cf8/pci@8\n/pci@i0cf8/pci@a/drive@1/disk@0\n\0');
    expect(file(fwCfg, 'etc/sercon-port').readBigUInt64LE()).toBe(0x3f8n);
    const map = file(fwCfg, 'etc/e820');
    expect([0, 8, 20, 28].map((at) => Number(map.readBigUInt64LE(at)))).toEqual([0, 3 * MiB, 2 ** 32, MiB]);
    expect([16, 36].map((at) => map.readUInt32LE(at))).toEqual([1, 1]);
  });
});

describe('fw_cfg by DMA', () => {
  const read = 2;
  const skip = 4;
  const select = (selector: number) => selector * 0x10000 + 8;

  it('announces itself', () => {
    const { fwCfg } = make();
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(fwCfg.read(0x514, 4));
    bytes.writeUInt32LE(fwCfg.read(0x518, 4), 4);
    expect(bytes.toString()).toBe('QEMU CFG');
  });

  it('reads an item in parts, and zeros after its end', () => {
    const { fwCfg, memory } = make();
    const { selector, size } = listed(fwCfg).get('bootorder')!;
    const whole = file(fwCfg, 'bootorder');
    memory.fill(0xee, 0x1000, 0x2000);
    expect(dma(fwCfg, memory, select(selector) | read, 5, 0x1000)).toBe(0);
    expect(dma(fwCfg, memory, skip, 3, 0)).toBe(0);
    expect(dma(fwCfg, memory, read, size, 0x1005)).toBe(0);
    expect(Buffer.from(memory.subarray(0x1000, 0x1005)).equals(whole.subarray(0, 5))).toBe(true);
    expect(Buffer.from(memory.subarray(0x1005, 0x1005 + size - 8)).equals(whole.subarray(8))).toBe(true);
    expect([...memory.subarray(0x1005 + size - 8, 0x1005 + size)]).toEqual(Array(8).fill(0));
    expect(memory[0x1005 + size]).toBe(0xee);
  });

  it.each([
    ['a write', 16, 4, 0x1000],
    ['memory that does not exist', read, 16, MiB - 8],
    ['an address beyond all memory', read, 4, 2 ** 60],
    ['too much at once', read, 0xffffffff, 0],
  ])('reports %s as an error', (_, control, length, target) => {
    const { fwCfg, memory } = make();
    const before = memory.slice(0x110);
    expect(dma(fwCfg, memory, control, length, target)).toBe(1);
    expect(Buffer.from(memory.subarray(0x110)).equals(before)).toBe(true);
  });

  it('does nothing if its description is not in memory', () => {
    const { fwCfg, memory } = make();
    fwCfg.write(0x514, 4, 0xffffffff);
    fwCfg.write(0x518, 4, 0xffffffff);
    expect(memory.every((byte) => byte === 0)).toBe(true);
  });
});

describe('the ACPI tables of firmware', () => {
  /** Does what the script says, with the files at these addresses. */
  function load(fwCfg: FwCfg, places: Readonly<Record<string, number>>): Map<string, Buffer> {
    const loaded = new Map<string, Buffer>();
    const script = file(fwCfg, 'etc/table-loader');
    const name = (at: number) => script.subarray(at, script.indexOf(0, at)).toString();
    for (let at = 0; at < script.length; at += 128) {
      const command = script.readUInt32LE(at);
      const bytes = loaded.get(name(at + 4)) ?? file(fwCfg, name(at + 4));
      loaded.set(name(at + 4), bytes);
      if (command === 1) expect(places[name(at + 4)]! % script.readUInt32LE(at + 60)).toBe(0);
      else if (command === 2) {
        const field = script.readUInt32LE(at + 116);
        const size = script[at + 120]!;
        bytes.writeUIntLE(
          bytes.readUIntLE(field, Math.min(size, 6)) + places[name(at + 60)]!,
          field,
          Math.min(size, 6),
        );
      } else if (command === 3) {
        const [field, start, length] = [60, 64, 68].map((offset) => script.readUInt32LE(at + offset)) as number[];
        const sum = bytes.subarray(start!, start! + length!).reduce((total, byte) => total + byte, 0);
        bytes[field!] = (bytes[field!]! - sum) & 0xff;
      } else throw new Error(`command ${command}`);
    }
    return loaded;
  }

  it('are whole at any place, by 32-bit and by 64-bit pointers', () => {
    const place = 0xbff0000;
    const loaded = load(make().fwCfg, { 'etc/acpi/rsdp': 0xf5a20, 'etc/acpi/tables': place });
    const root = loaded.get('etc/acpi/rsdp')!;
    const all = loaded.get('etc/acpi/tables')!;
    const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
    expect(sum(root.subarray(0, 20))).toBe(0);
    expect(sum(root)).toBe(0);
    const table = (address: number) => {
      const at = address - place;
      const bytes = all.subarray(at, at + all.readUInt32LE(at + 4));
      expect(bytes.toString('latin1', 0, 4) === 'FACS' ? 0 : sum(bytes)).toBe(0);
      return bytes;
    };
    const found = [
      [36, 40].map((at) => table(root.readUInt32LE(16)).readUInt32LE(at)),
      [36, 44].map((at) => Number(table(Number(root.readBigUInt64LE(24))).readBigUInt64LE(at))),
    ];
    expect(found[0]).toEqual(found[1]);
    const [fadt, madt] = found[0]!.map(table) as [Buffer, Buffer];
    expect([fadt, madt].map((bytes) => bytes.toString('latin1', 0, 4))).toEqual(['FACP', 'APIC']);
    expect(table(fadt.readUInt32LE(40)).toString('latin1', 0, 4)).toBe('DSDT');
    expect(Number(fadt.readBigUInt64LE(140))).toBe(fadt.readUInt32LE(40));
    expect(table(fadt.readUInt32LE(36)).toString('latin1', 0, 4)).toBe('FACS');
  });
});

describe("the flash with UEFI's variables", () => {
  const start = 0xffc00000;
  function makeFlash(): { flash: Flash; bytes: Uint8Array; shown: boolean[]; changes: () => number } {
    const bytes = new Uint8Array(0x3000).fill(0xff);
    const shown: boolean[] = [];
    let changes = 0;
    const flash = new Flash(start, bytes, { show: (one) => shown.push(one), changed: () => void changes++ });
    return { flash, bytes, shown, changes: () => changes };
  }

  it('answers as flash to the test that OVMF makes', () => {
    const { flash, shown } = makeFlash();
    flash.write(start + 5, 1, 0x50); // clear status
    expect(flash.read(start + 5, 1)).toBe(0xff);
    flash.write(start + 5, 1, 0x70); // read status
    expect(shown).toEqual([false]);
    expect(flash.read(start + 5, 1)).toBe(0);
    flash.write(start + 5, 1, 0xff); // read array
    expect(shown).toEqual([false, true]);
    expect(flash.read(start + 5, 4)).toBe(0xffffffff);
  });

  it('clears bits by programming, and sets those of a block by erasing', () => {
    const { flash, bytes, changes } = makeFlash();
    for (const [at, byte] of [
      [0x1000, 0x5a],
      [0x1000, 0xf0],
      [0x2000, 0x00],
    ] as const) {
      flash.write(start + at, 1, 0x10);
      flash.write(start + at, 1, byte);
    }
    expect([bytes[0x1000], bytes[0x2000]]).toEqual([0x50, 0]);
    flash.write(start + 0x1800, 1, 0x20);
    flash.write(start + 0x1800, 1, 0xd0);
    expect([bytes[0x1000], bytes[0x2000]]).toEqual([0xff, 0]);
    expect(changes()).toBe(4);
  });

  it('reports a sequence that is none, and changes nothing', () => {
    const { flash, bytes } = makeFlash();
    flash.write(start, 1, 0x20);
    flash.write(start, 1, 0x10);
    flash.write(start, 1, 0x70);
    expect(flash.read(start, 1)).toBe(0xb0);
    expect(bytes.every((byte) => byte === 0xff)).toBe(true);
  });

  it('answers any access, and stays within its bytes', () => {
    const { flash, bytes } = makeFlash();
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            at: fc.nat(bytes.length + 8),
            size: fc.constantFrom(1, 2, 4),
            value: fc.oneof(fc.constantFrom(0x10, 0x20, 0xd0, 0x50, 0x70, 0xff), fc.nat(0xffffffff)),
          }),
        ),
        (accesses) => {
          for (const { at, size, value } of accesses) {
            if (!flash.covers(start + at, size)) continue;
            flash.write(start + at, size, value);
            const read = flash.read(start + at, size);
            expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
          }
        },
      ),
    );
    expect(bytes).toHaveLength(0x3000);
  });
});
