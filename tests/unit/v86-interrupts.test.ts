/**
 * Interrupt lines on v86's board, whose interrupt controllers know edges only: a level that stays
 * must still interrupt again.
 */
import { expect, it } from 'vitest';
import { Exits } from '../../src/machine/engines/v86/exits.js';
import { Interrupts } from '../../src/machine/engines/v86/interrupts.js';
import type { V86Cpu } from '../../src/machine/engines/v86/internals.js';
import { TrapHandler } from '../../src/machine/trap.js';
import { Steps } from '../../src/base/steps.js';
import { nextIteration } from '../support/event-loop.js';

const [base, size, slot] = [0xfe000000, 0x2000, 8];
/** Interrupt input of INTA# of the function in slot 8, in {@link board}. */
const input = 10;

/** A board with one guarded register block; `edges` is what its interrupt controllers see. */
function board() {
  const edges: string[] = [];
  let level = false;
  const set = (wanted: boolean, irq: number): void => {
    if (wanted && !level) edges.push(`rise ${irq}`);
    level = wanted;
  };
  const spaces: Int32Array[] = [];
  spaces[slot << 3] = Int32Array.from({ length: 16 }, (_, i) => (i === 0x3c >> 2 ? 0x100 : 0));
  const registers = new Map<string, (address: number, value: number) => number | void>();
  const cpu = {
    devices: {
      pci: {
        device_spaces: spaces,
        isa_bridge_space8: new Uint8Array(256).fill(input),
        register_device: () => undefined,
      },
    },
    io: {
      mmap_register: (_at: number, _size: number, ...handlers: ((address: number, value: number) => number | void)[]) =>
        registers.set('write', handlers[3]!),
    },
    device_raise_irq: (irq: number) => set(true, irq),
    device_lower_irq: (irq: number) => set(false, irq),
  } as unknown as V86Cpu;
  const interrupts = new Interrupts(cpu);
  const exits = new Exits(cpu, new TrapHandler(new Steps()), () => interrupts.written());
  exits.guard(base, size);
  return { edges, line: interrupts.line(slot << 3, exits), write: () => registers.get('write')!(base, 1) };
}

it('gives a line that is still asserted after a write another edge', async () => {
  const { edges, line, write } = board();
  line.set(true);
  expect(edges).toEqual(['rise 10']);
  // The driver clears one cause; another has come meanwhile, so the level stays.
  write();
  await nextIteration();
  expect(edges).toEqual(['rise 10', 'rise 10']);
});

it('gives no edge for a level that the driver has ended', async () => {
  const { edges, line, write } = board();
  line.set(true);
  write();
  line.set(false);
  await nextIteration();
  write();
  await nextIteration();
  expect(edges).toEqual(['rise 10']);
});

it('gives one edge to a line that falls and rises again after a write', async () => {
  const { edges, line, write } = board();
  line.set(true);
  write();
  line.set(false);
  // The next command completes before the event loop goes on.
  line.set(true);
  await nextIteration();
  expect(edges).toEqual(['rise 10', 'rise 10']);
});
