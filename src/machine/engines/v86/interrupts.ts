/**
 * Interrupt lines of PCI functions on v86's board (82371SB, 8259A). v86 does not OR lines that
 * share an input, and an interrupt that is raised within an MMIO handler crashes the guest's
 * kernel; lowering a line there is safe (docs/notes/engine.md, "Shared lines" and "Interrupts and
 * MMIO").
 *
 * v86's interrupt controllers know edges only, and PCI's lines are levels. A driver that has
 * cleared one cause while another has come would wait for an edge for ever. So an input that stays
 * asserted after the guest has written to a guarded register gets a new edge.
 */
import { nextIteration } from '../../../base/event-loop.js';
import type { InterruptLine } from '../../engine.js';
import { ideSlot } from '../../ide-disk.js';
import type { Exits } from './exits.js';
import type { V86Cpu } from './internals.js';

/**
 * Interrupt controller inputs for PCI's INTA# to INTD# if no BIOS routes them. The board uses none
 * of these inputs otherwise.
 */
const pirqRouting = [10, 11, 5, 9] as const;

export class Interrupts {
  readonly #cpu: V86Cpu;
  /** The asserted lines of each input. */
  readonly #asserted = new Map<number, Set<number>>();
  /** Inputs that were asserted at a write of the guest and have not been deasserted since. */
  readonly #unchanged = new Set<number>();
  #edgeScheduled = false;

  constructor(cpu: V86Cpu) {
    this.#cpu = cpu;
    this.#share();
  }

  /** The line of a function. It is raised after the guest's instruction if that is an exit. */
  line(id: number, exits: Exits): InterruptLine {
    let wanted = false;
    return {
      set: (asserted) => {
        wanted = asserted;
        if (!asserted) return this.#cpu.devices.pci.lower_irq(id);
        if (!exits.within) return this.#cpu.devices.pci.raise_irq(id);
        nextIteration(() => {
          if (wanted) this.#cpu.devices.pci.raise_irq(id);
        });
      },
    };
  }

  /**
   * Tells that the guest has written to a guarded register, which may have cleared a cause of an
   * interrupt. The inputs that stay asserted until after the guest's instruction get a new edge.
   * One that falls and rises again has its edge already: another would be an interrupt without a
   * cause.
   */
  written(): void {
    for (const [irq, lines] of this.#asserted) if (lines.size > 0) this.#unchanged.add(irq);
    if (this.#edgeScheduled || this.#unchanged.size === 0) return;
    this.#edgeScheduled = true;
    nextIteration(() => {
      this.#edgeScheduled = false;
      for (const irq of this.#unchanged) {
        this.#cpu.device_lower_irq(irq);
        this.#cpu.device_raise_irq(irq);
      }
      this.#unchanged.clear();
    });
  }

  /** A restored state has the levels of its own lines. */
  forget(): void {
    for (const set of this.#asserted.values()) set.clear();
    this.#unchanged.clear();
  }

  /** The interrupt controller input that a PCI function's line is routed to. */
  #inputOf(id: number): number {
    const { pci } = this.#cpu.devices;
    const pin = ((pci.device_spaces[id]![0x3c >>> 2]! >> 8) & 0xff) - 1;
    return pci.isa_bridge_space8[0x60 + ((pin + (id >> 3) - 1) & 3)]!;
  }

  /**
   * The vector that the operating system has assigned to a function's input (8259A, ICW2);
   * undefined until it has.
   */
  vectorOf(id: number): number | undefined {
    const input = this.#inputOf(id);
    const at = input < 8 ? this.#cpu.get_pic_addr_master() : this.#cpu.get_pic_addr_slave();
    // The second byte of v86's state of the controller is the first of its eight vectors.
    const first = new Uint8Array(this.#cpu.wasm_memory.buffer, at, 2)[1]!;
    return first === 0 ? undefined : first + (input & 7);
  }

  /**
   * ORs level-triggered lines that share an input. v86 by itself lowers the input when any of them
   * is deasserted.
   */
  #share(): void {
    const { pci } = this.#cpu.devices;
    pci.raise_irq = (id) => {
      const irq = this.#inputOf(id);
      const lines = this.#asserted.get(irq) ?? new Set();
      this.#asserted.set(irq, lines.add(id));
      this.#cpu.device_raise_irq(irq);
    };
    pci.lower_irq = (id) => {
      const irq = this.#inputOf(id);
      const lines = this.#asserted.get(irq);
      lines?.delete(id);
      if (lines?.size) return;
      this.#unchanged.delete(irq);
      this.#cpu.device_lower_irq(irq);
    };
  }

  /**
   * Sets up PCI interrupts as a BIOS would on this board (82371SB, PIRQRC at 60h): routing and
   * interrupt line registers. Level triggering (ELCR) is left out, because v86 has none.
   */
  route(): void {
    const { pci } = this.#cpu.devices;
    pirqRouting.forEach((irq, i) => (pci.isa_bridge_space8[0x60 + i] = irq));
    // 82371SB, IDETIM at 40h and 42h: enable both IDE channels.
    const ide = pci.device_spaces[ideSlot << 3];
    if (ide) ide[0x40 >>> 2] = 0x80008000 | 0;
    pci.device_spaces.forEach((space, id) => {
      const pin = space ? (space[0x3c >>> 2]! >> 8) & 0xff : 0;
      if (!space || pin === 0) return;
      const irq = pirqRouting[(pin - 1 + (id >> 3) - 1) & 3]!;
      space[0x3c >>> 2] = (space[0x3c >>> 2]! & ~0xff) | irq;
    });
  }
}
