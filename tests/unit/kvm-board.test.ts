/** The board of the KVM engine, without KVM: its ports, PCI functions, MSI-X and ACPI tables. */
import { describe, expect, it } from 'vitest';
import { Steps } from '../../src/base/steps.js';
import { acpiTables, placedTables, tablesAt } from '../../src/machine/engines/kvm/board/acpi.js';
import { Board } from '../../src/machine/engines/kvm/board/board.js';
import { Flash } from '../../src/machine/engines/kvm/board/flash.js';
import { FwCfg } from '../../src/machine/engines/kvm/board/fw-cfg.js';
import { outputBytes } from '../../src/machine/engines/kvm/board/shared-state.js';
import { pciConfig } from '../../src/machine/pci.js';
import { TrapHandler } from '../../src/machine/trap.js';

const base = 0xfe000000;
const size = 0x4000;

/** A board with one function in slot 8, which records the accesses to its registers. */
function makeBoard(): {
  board: Board;
  inputs: [number, boolean][];
  messages: [number, number][];
  serial: number[];
  ends: string[];
  accesses: string[];
  slot: ReturnType<Board['pci']['add']>;
} {
  const trap = new TrapHandler(new Steps());
  const inputs: [number, boolean][] = [];
  const messages: [number, number][] = [];
  const serial: number[] = [];
  const ends: string[] = [];
  const accesses: string[] = [];
  trap.guard({
    name: 'device',
    base,
    size,
    issuesCommand: () => false,
    read: (offset, bytes) => (accesses.push(`read ${offset} ${bytes}`), 0x11223344),
    write: (offset, bytes, value) => void accesses.push(`write ${offset} ${bytes} ${value}`),
  });
  const board = new Board(trap, {
    setInput: (input, asserted) => inputs.push([input, asserted]),
    sendMessage: (address, data) => messages.push([address, data]),
    onSerial: (byte) => serial.push(byte),
    onRoom: () => undefined,
    onEnd: (why) => ends.push(why),
  });
  const identity = {
    vendor: 0xfb05,
    device: 1,
    classCode: [1, 8, 2],
    revision: 1,
    barBase: base,
    interruptPin: 1,
  } as const;
  const config = pciConfig(identity);
  const msix = { vectors: 3, tableOffset: 0x2000, pendingOffset: 0x3000 };
  const slot = board.pci.add({ name: 'device', slot: 8, config, barBase: base, barSize: size, msix }, () => undefined);
  return { board, inputs, messages, serial, ends, accesses, slot };
}

const address = (slot: number, offset: number) => (0x80000000 | (slot << 11) | offset) >>> 0;

function readConfig(board: Board, slot: number, offset: number, bytes = 4): number {
  board.writePort(0xcf8, 4, address(slot, offset & ~3));
  return board.readPort(0xcfc + (offset & 3), bytes);
}

function writeConfig(board: Board, slot: number, offset: number, bytes: number, value: number): void {
  board.writePort(0xcf8, 4, address(slot, offset & ~3));
  board.writePort(0xcfc + (offset & 3), bytes, value);
}

describe('PCI configuration by ports', () => {
  it('shows the host bridge, the function, and ones in empty places', () => {
    const { board } = makeBoard();
    expect(readConfig(board, 0, 0)).toBe(0x12378086);
    expect(readConfig(board, 8, 0)).toBe(0x0001fb05);
    expect(readConfig(board, 8, 2, 2)).toBe(1);
    expect(readConfig(board, 9, 0)).toBe(0xffffffff);
    board.writePort(0xcf8, 4, 0x80010000);
    expect(board.readPort(0xcfc, 4)).toBe(0xffffffff);
    board.writePort(0xcf8, 4, address(8, 0) & 0x7fffffff);
    expect(board.readPort(0xcfc, 2)).toBe(0xffff);
  });

  it('tells the size of the BAR, and lets the guest move it and switch it off', () => {
    const { board, accesses } = makeBoard();
    writeConfig(board, 8, 0x10, 4, 0xffffffff);
    expect(readConfig(board, 8, 0x10)).toBe(0xffffc000);
    writeConfig(board, 8, 0x10, 4, 0xfd100000);
    expect(board.readMemory(0xfd100010, 4)).toBe(0xffffffff); // memory accesses are off
    writeConfig(board, 8, 0x04, 2, 0x0002);
    expect(board.readMemory(0xfd100010, 4)).toBe(0x11223344);
    board.writeMemory(0xfd100014, 4, 7);
    expect(accesses).toEqual(['read 16 4', 'write 20 4 7']);
    expect(board.readMemory(base + 16, 4)).toBe(0xffffffff); // its former place
    board.writeMemory(base + 20, 4, 8);
    expect(accesses).toHaveLength(2);
    writeConfig(board, 8, 0x14, 4, 0xffffffff); // a BAR that does not exist
    expect(readConfig(board, 8, 0x14)).toBe(0);
  });

  it('keeps identification and reserved bits', () => {
    const { board } = makeBoard();
    for (let offset = 0; offset < 256; offset += 4) if (offset !== 0x10) writeConfig(board, 8, offset, 4, 0xffffffff);
    expect(readConfig(board, 8, 0)).toBe(0x0001fb05);
    expect(readConfig(board, 8, 4, 2)).toBe(0x0547);
    expect(readConfig(board, 8, 0x3c, 1)).toBe(0xff);
    expect(readConfig(board, 8, 0x3d, 1)).toBe(1);
  });
});

describe('MSI-X', () => {
  const enable = (board: Board, control: number) => writeConfig(board, 8, 0x42, 2, control);
  const setEntry = (board: Board, vector: number, words: readonly number[]) =>
    words.forEach((word, i) => board.writeMemory(base + 0x2000 + 16 * vector + 4 * i, 4, word));

  it('is announced, and sends the message of a vector', () => {
    const { board, messages, slot } = makeBoard();
    writeConfig(board, 8, 4, 2, 2);
    expect(readConfig(board, 8, 0x06, 2) & 0x10).toBe(0x10);
    expect(readConfig(board, 8, 0x34, 1)).toBe(0x40);
    expect(readConfig(board, 8, 0x40, 1)).toBe(0x11);
    expect(readConfig(board, 8, 0x42, 2)).toBe(2);
    setEntry(board, 1, [0xfee01000, 1, 0x4021, 0]);
    slot.msix!.signal(1);
    expect(messages).toEqual([]); // not switched on
    enable(board, 0x8000);
    slot.msix!.signal(1);
    expect(messages).toEqual([[0x1fee01000, 0x4021]]);
    expect(board.readMemory(base + 0x2000 + 16 + 8, 4)).toBe(0x4021);
  });

  it('makes a masked message pending, and sends it once when the mask goes', () => {
    const { board, messages, slot } = makeBoard();
    writeConfig(board, 8, 4, 2, 2);
    enable(board, 0x8000);
    setEntry(board, 2, [0xfee00000, 0, 5, 1]);
    slot.msix!.signal(2);
    slot.msix!.signal(2);
    expect(messages).toEqual([]);
    expect(board.readMemory(base + 0x3000, 4)).toBe(4);
    setEntry(board, 2, [0xfee00000, 0, 5, 0]);
    expect(messages).toEqual([[0xfee00000, 5]]);
    expect(board.readMemory(base + 0x3000, 4)).toBe(0);
    enable(board, 0xc000); // all masked
    slot.msix!.signal(2);
    expect(messages).toHaveLength(1);
    enable(board, 0x8000);
    expect(messages).toHaveLength(2);
  });

  it('ignores vectors that do not exist and accesses that are not aligned dwords', () => {
    const { board, messages, slot } = makeBoard();
    writeConfig(board, 8, 4, 2, 2);
    enable(board, 0x8000);
    slot.msix!.signal(99);
    board.writeMemory(base + 0x2001, 2, 0xffff);
    board.writeMemory(base + 0x2000 + 3 * 16 - 2, 4, 0xffffffff);
    expect(board.readMemory(base + 0x2000, 4)).toBe(0);
    expect(messages).toEqual([]);
  });
});

describe('MSI', () => {
  it('is announced, and sends its message while it is switched on', () => {
    const { board, messages } = makeBoard();
    const config = pciConfig({ vendor: 1, device: 2, classCode: [1, 6, 1], revision: 1, barBase: 0, interruptPin: 1 });
    const added = { name: 'other', slot: 9, config, barBase: 0xfe100000, barSize: 0x2000, msi: true };
    const slot = board.pci.add(added, () => undefined);
    expect(readConfig(board, 9, 0x06, 2) & 0x10).toBe(0x10);
    expect(readConfig(board, 9, 0x34, 1)).toBe(0x40);
    expect(readConfig(board, 9, 0x40)).toBe(0x00800005);
    writeConfig(board, 9, 0x44, 4, 0xfee01003);
    writeConfig(board, 9, 0x48, 4, 1);
    writeConfig(board, 9, 0x4c, 4, 0xffff4021);
    slot.messages!.signal(0);
    expect(messages).toEqual([]);
    writeConfig(board, 9, 0x42, 2, 0xffff);
    expect(readConfig(board, 9, 0x42, 2)).toBe(0x81);
    expect(readConfig(board, 9, 0x4c)).toBe(0x4021);
    slot.messages!.signal(0);
    expect(messages).toEqual([[0x1fee01000, 0x4021]]);
  });
});

describe('the serial port', () => {
  it("sends the guest's bytes, and interrupts when it is empty", () => {
    const { board, serial, inputs } = makeBoard();
    board.writePort(0x3f9, 1, 2);
    expect(inputs).toEqual([[4, true]]);
    expect(board.readPort(0x3fa, 1) & 0x0f).toBe(2);
    expect(inputs.at(-1)).toEqual([4, false]);
    for (const byte of Buffer.from('hello')) board.writePort(0x3f8, 1, byte);
    board.takeOutput();
    expect(Buffer.from(serial).toString()).toBe('hello');
  });

  it('interrupts again for each byte that a driver sends without asking for the cause', () => {
    const { board, inputs } = makeBoard();
    board.writePort(0x3f9, 1, 2);
    board.writePort(0x3f8, 1, 0x41);
    expect(inputs.map(([, asserted]) => asserted)).toEqual([true, false, true]);
  });

  it('loses no output when the guest sends more than waits', () => {
    const { board, serial } = makeBoard();
    for (let i = 0; i < 2 * outputBytes; i++) board.writePort(0x3f8, 1, i & 0xff);
    board.takeOutput();
    expect(serial).toHaveLength(2 * outputBytes);
    expect(serial.every((byte, i) => byte === (i & 0xff))).toBe(true);
  });

  it('gives input in order, within its bound, with an interrupt', () => {
    const { board, inputs } = makeBoard();
    board.writePort(0x3f9, 1, 1);
    const input = Uint8Array.from({ length: 3000 }, (_, i) => i & 0xff);
    const taken = board.giveInput(input);
    expect(taken).toBe(1024);
    expect(inputs).toEqual([[4, true]]);
    for (let i = 0; i < taken; i++) {
      expect(board.readPort(0x3fd, 1) & 1).toBe(1);
      expect(board.readPort(0x3f8, 1)).toBe(i & 0xff);
    }
    expect(board.readPort(0x3fd, 1) & 1).toBe(0);
    expect(inputs.at(-1)).toEqual([4, false]);
  });

  it('holds what the guest sends to itself in loopback mode within the same bound', () => {
    const { board, serial } = makeBoard();
    board.writePort(0x3fc, 1, 0x10);
    for (let i = 0; i < 5000; i++) board.writePort(0x3f8, 1, 1);
    board.takeOutput();
    expect(serial).toEqual([]);
    expect(board.giveInput(Uint8Array.of(1))).toBe(0);
  });
});

describe('switching off and reset', () => {
  it.each([
    ['S5 in the power management control register', 0x604, 2, 0x2000, 'halted'],
    ['the reset control register', 0xcf9, 1, 0x06, 'reset'],
    ['the keyboard controller', 0x64, 1, 0xfe, 'reset'],
  ])('by %s', (_, port, bytes, value, why) => {
    const { board, ends } = makeBoard();
    board.writePort(port, bytes, value);
    expect(ends).toEqual([why]);
  });

  it('not by other sleep types and commands', () => {
    const { board, ends } = makeBoard();
    board.writePort(0x604, 2, 0x1400);
    board.writePort(0x604, 2, 0x2400);
    board.writePort(0xcf9, 1, 0x02);
    board.writePort(0x64, 1, 0xaa);
    expect(ends).toEqual([]);
  });
});

it('shows firmware an ISA bridge, and the subsystem by which it looks for fw_cfg', () => {
  const { board } = makeBoard();
  expect(board.readPort(0x511, 1)).toBe(0xff);
  board.pci.addChipset();
  expect(readConfig(board, 0, 0x2c)).toBe(0x11001af4);
  expect(readConfig(board, 1, 0)).toBe(0x70008086);
});

it('shows UEFI no keyboard controller, which it would ask for a keyboard for seconds, but is reset by it', () => {
  const { board, ends } = makeBoard();
  expect(board.readPort(0x64, 1)).toBe(0x04);
  board.flash = new Flash(0xffc00000, new Uint8Array(0x1000), { show: () => undefined, changed: () => undefined });
  board.writePort(0x64, 1, 0xaa);
  expect([board.readPort(0x64, 1), board.readPort(0x60, 1)]).toEqual([0xff, 0xff]);
  board.writePort(0x64, 1, 0xfe);
  expect(ends).toEqual(['reset']);
});

it('shows UEFI the power management registers and timer, and the size of memory', () => {
  const { board } = makeBoard();
  const power = (offset: number) => {
    board.writePort(0xcf8, 4, 0x80000b00 | offset);
    return board.readPort(0xcfc, 4);
  };
  expect(power(0)).toBe(0xffffffff);
  board.pci.addChipset(true);
  expect(power(0)).toBe(0x71138086);
  expect(power(8)).toBe(0x06800003);
  expect(power(0x40)).toBe(0x601);
  expect(power(0x80) & 1).toBe(1);
  expect(readConfig(board, 1, 0x0e, 1)).toBe(0x80);
  expect(board.readPort(0x608, 4)).toBeLessThan(0x1000000);
  board.setMemory([
    { start: 0, length: 0x40000000 },
    { start: 2 ** 32, length: 0x1230000 },
  ]);
  const cmos = (index: number) => (board.writePort(0x70, 1, index), board.readPort(0x71, 1));
  expect([0x34, 0x35, 0x5b, 0x5c, 0x5d].map(cmos)).toEqual([0, 0x3f, 0x23, 0x01, 0]);
});

it('answers any access to any port and any address', () => {
  const { board } = makeBoard();
  const memory = new Uint8Array(0x10000);
  board.fwCfg = new FwCfg({ items: new Map(), files: new Map([['file', Uint8Array.of(1, 2, 3)]]) }, (at, length) =>
    at + length <= memory.length ? memory.subarray(at, at + length) : undefined,
  );
  let seed = 1;
  const random = (below: number) => (seed = (seed * 48271) % 0x7fffffff) % below;
  const interesting = [
    0x3f8, 0x3fc, 0x61, 0x64, 0x70, 0x71, 0xcf8, 0xcfc, 0xcfe, 0x510, 0x514, 0x518, 0x600, 0x602, 0x604,
  ];
  for (let i = 0; i < 50_000; i++) {
    const bytes = [1, 2, 4][random(3)]!;
    const port = random(2) ? interesting[random(interesting.length)]! + random(4) : random(0x10000);
    const value = random(0x7fffffff) * 2;
    if (random(2)) board.writePort(port, bytes, bytes === 4 ? value : value % 2 ** (8 * bytes));
    const read = board.readPort(port, bytes);
    expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * bytes)).toBe(true);
    const at = base - 64 + random(size + 128);
    if (random(2)) board.writeMemory(at, bytes, value % 2 ** (8 * bytes));
    expect(Number.isInteger(board.readMemory(at, bytes))).toBe(true);
  }
});

describe('the ACPI tables', () => {
  const tables = placedTables(acpiTables({ processors: 2, inputOf: (slot) => [10, 11, 5, 7][slot & 3]! }));
  const view = new DataView(tables.buffer, tables.byteOffset, tables.length);
  const table = (at: bigint) => {
    const offset = Number(at) - tablesAt;
    const length = view.getUint32(offset + 4, true);
    return tables.subarray(offset, offset + length);
  };
  const name = (bytes: Uint8Array) => Buffer.from(bytes.subarray(0, 4)).toString();
  const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

  it('are found from the root pointer, each with a sum of 0', () => {
    expect(Buffer.from(tables.subarray(0, 8)).toString()).toBe('RSD PTR ');
    expect(sum(tables.subarray(0, 20))).toBe(0);
    expect(sum(tables.subarray(0, 36))).toBe(0);
    const xsdt = table(view.getBigUint64(24, true));
    const pointers = new DataView(xsdt.buffer, xsdt.byteOffset);
    const found = [36, 44].map((at) => table(pointers.getBigUint64(at, true)));
    expect(found.map(name)).toEqual(['FACP', 'APIC']);
    const fadt = new DataView(found[0]!.buffer, found[0]!.byteOffset);
    const dsdt = table(fadt.getBigUint64(140, true));
    expect(name(dsdt)).toBe('DSDT');
    for (const one of [xsdt, dsdt, ...found]) expect(sum(one)).toBe(0);
  });
});
