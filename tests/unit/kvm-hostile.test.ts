/**
 * Guests of a few bytes, as the content of the ROM, that misbehave on the KVM engine: each must end
 * or be ended at once. They need /dev/kvm, but no paging, so any KVM runs them.
 */
import { accessSync, constants } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/storage/memory.js';
import type { ClientComputer } from '../../src/computer/client.js';

// Compiled, because the threads of the processors start from a file.
const start = new URL('../../dist/app/computer/start.js', import.meta.url).href;
const { createComputer } = (await import(start)) as typeof import('../../src/app/computer/start.js');

const romBytes = 0x10000;
/** Offset of the reset vector in the ROM: a processor starts in real mode, 16 bytes below 4 GiB. */
const resetVector = 0xfff0;
const romStart = 2 ** 32 - romBytes;
const gdtAt = 0x100;
/** Offset of an instruction that is none. */
const faultAt = 0x200;

/** A ROM with 16-bit code at its beginning. */
function rom(code: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(romBytes);
  bytes.set(code);
  // A flat 32-bit code segment, selector 8; and the pseudo-descriptor of its table.
  bytes.set([0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0], gdtAt + 8);
  bytes.set([15, 0, 0x00, 0x01, 0xff, 0xff], gdtAt + 16);
  bytes.set([0x0f, 0x0b], faultAt); // ud2
  bytes.set([0xe9, 0x0d, 0x00], resetVector); // jmp 0
  return bytes;
}

/** Switches to 32-bit protected mode, and jumps to `address`. */
function protectedMode(address: number): number[] {
  const pointer = gdtAt + 16;
  const lgdt = [0x2e, 0x66, 0x0f, 0x01, 0x16, pointer & 0xff, pointer >> 8];
  const setPe = [0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0];
  const bytes = [0, 8, 16, 24].map((shift) => (address >>> shift) & 0xff);
  return [...lgdt, ...setPe, 0x66, 0xea, ...bytes, 8, 0];
}

const loop = (code: readonly number[]) => [...code, 0xeb, 0x100 - code.length - 2];

/** Sends back each byte of the serial port, plus 1. */
const adding = [
  ...[0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8], // mov dx, 0x3fd; in al, dx; test al, 1; jz 0
  ...[0xba, 0xf8, 0x03, 0xec, 0xfe, 0xc0, 0xee, 0xeb, 0xef], // mov dl, 0xf8; in; inc al; out; jmp 0
];

/** Guests that run until they are ended. */
const endless = {
  'spins with interrupts off': [0xfa, 0xeb, 0xfe],
  'halts with interrupts off': [0xfa, 0xf4],
  'floods exits to the main thread': loop([0xba, 0x11, 0x05, 0xec]), // in al, 0x511
  'floods exits that stay on its thread': loop([0xba, 0xf8, 0x02, 0xee]), // out 0x2f8, al
  'floods the serial port': loop([0xba, 0xf8, 0x03, 0xee]),
  // rdtsc; mov dx, ax; in al, dx
  'reads random ports': loop([0x0f, 0x31, 0x89, 0xc2, 0xec]),
};

function canKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!canKvm())('a guest on KVM', () => {
  const computers: ClientComputer[] = [];
  afterEach(async () => {
    for (const computer of computers.splice(0)) await computer.stop();
  });

  async function create(code: readonly number[]): Promise<ClientComputer> {
    const log = { log: () => undefined };
    const firmware = { bios: rom(code) };
    const computer = await createComputer([new MemoryDevice(1 << 20)], 64 << 20, { log, firmware, engine: 'kvm' });
    computers.push(computer);
    return computer;
  }

  async function boot(code: readonly number[]): Promise<ClientComputer> {
    const computer = await create(code);
    computer.bootFirmware();
    return computer;
  }

  it.each(Object.entries(endless))('that %s is ended', async (_, code) => {
    const computer = await boot(code);
    let ended = false;
    void computer.ended.then(() => (ended = true));
    // The event loop goes on while the guest does what it can.
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(ended).toBe(false);
    await computer.stop();
  });

  it('that writes at random to all ports ends or is ended', async () => {
    // rdtsc; mov dx, ax; ror eax, 3; out dx, ax
    const computer = await boot(loop([0x0f, 0x31, 0x89, 0xc2, 0x66, 0xc1, 0xc8, 0x03, 0xef]));
    await Promise.race([computer.ended, new Promise((resolve) => setTimeout(resolve, 300))]);
    await computer.stop();
  });

  it('that makes a triple fault ends as such, not as one that asks for a restart', async () => {
    // A table of interrupts without entries: lidt [0x500], which is all zeros. Then an exception.
    const lidt = [0x31, 0xc0, 0x8e, 0xd8, 0x0f, 0x01, 0x1e, 0x00, 0x05];
    const computer = await boot([...lidt, ...protectedMode(romStart + faultAt)]);
    expect(await computer.ended).toBe('tripleFault');
    expect(computer.endDetail).toBeUndefined();
  });

  it('whose instructions the kernel cannot get ends as failed', async () => {
    const computer = await boot(protectedMode(0xd0000000));
    expect(await computer.ended).toBe('failed');
    expect(computer.endDetail).toMatch(/internal error/);
  });

  it('that its firmware started continues from a snapshot, in the ROM and at the serial port', async () => {
    const received: number[] = [];
    const next = async (computer: ClientComputer, text: string) => {
      const before = received.length;
      await computer.sendSerial(Buffer.from(text));
      while (received.length === before) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    const first = await boot(adding);
    first.onSerial((byte) => received.push(byte));
    await next(first, 'a');
    const snapshot = await first.save('key');
    await first.stop();
    const second = await create(adding);
    second.onSerial((byte) => received.push(byte));
    await second.restore(snapshot, 'key');
    await next(second, 'x');
    expect(Buffer.from(received).toString()).toBe('by');
  });
});
