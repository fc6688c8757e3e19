/**
 * The board around the processors, on the main thread: it owns the PCI functions, answers the
 * accesses to their addresses, and does what the quick ports leave to it: configuring PCI
 * functions, switching off, reset.
 *
 * Not here: the quick ports (ports.ts); the interrupt controllers and the timer, which the kernel
 * emulates.
 */
import type { MemoryRange } from '../../../guest-memory.js';
import type { TrapHandler } from '../../../trap.js';
import { powerPorts, resetPort, sleepTypeOff } from './acpi.js';
import { registerBits, registerNames, type BoardState, type RegisterName } from './board-state.js';
import type { SendMessage } from './capability.js';
import type { Flash } from './flash.js';
import type { FwCfg } from './fw-cfg.js';
import { PciBus } from './pci-bus.js';
import { KeyboardController, i8042Ports } from './i8042.js';
import { QuickPorts, isFwCfg, ones, pciDataPort } from './ports.js';
import { SharedState, Word } from './shared-state.js';
import { uartInterrupt } from './uart.js';

export interface BoardHost {
  /** Sets the level of an interrupt controllers' input. */
  setInput(input: number, asserted: boolean): void;
  sendMessage: SendMessage;
  onSerial(byte: number): void;
  /** The guest has taken input, and there is room for more. */
  onRoom(): void;
  onEnd(why: 'halted' | 'reset'): void;
}

/** Power management control: sleep type in bits 10 to 12, sleep enable in bit 13. */
const sleepEnable = 0x2000;
/**
 * An address that no device owns. The trap knows a device by its first address, where it may not
 * be any more.
 */
const nowhere = 2 ** 52;

export class Board {
  readonly pci: PciBus;
  readonly state = new SharedState();
  /** Facts and files for firmware; undefined if the computer has none. */
  fwCfg: FwCfg | undefined;
  /** UEFI's variables; undefined if the computer has none. */
  flash: Flash | undefined;
  readonly #keyboard = new KeyboardController();
  readonly #ports: QuickPorts;
  readonly #trap: TrapHandler;
  readonly #host: BoardHost;

  constructor(trap: TrapHandler, host: BoardHost) {
    this.#trap = trap;
    this.#host = host;
    this.pci = new PciBus(this.state, host.sendMessage);
    this.#ports = new QuickPorts(this.state, (asserted) => host.setInput(uartInterrupt, asserted));
  }

  readPort(port: number, size: number): number {
    const value = this.#ports.read(port, size) ?? this.#readSlow(port, size);
    // A processor's thread leaves repeated reads of the serial port to us.
    if (this.state.words[Word.inputWaits] === 1 && this.#ports.uart.room > 0) this.#host.onRoom();
    return value;
  }

  /** Reads a port that the quick ports leave to the main thread. */
  #readSlow(port: number, size: number): number {
    // UEFI takes ones for no controller; for a keyboard that never answers it would wait 3 s.
    if (isKeyboard(port)) return this.flash ? ones(size) : this.#keyboard.read(port);
    return isFwCfg(port) && this.fwCfg ? this.fwCfg.read(port, size) : ones(size);
  }

  writePort(port: number, size: number, value: number): void {
    // A processor's thread leaves the serial port to us if its output is full.
    this.takeOutput();
    if (this.#ports.write(port, size, value)) return;
    if (port >= pciDataPort && port < pciDataPort + 4) return this.pci.writePort(port, size, value);
    if (isFwCfg(port)) return this.fwCfg?.write(port, size, value);
    if (port === resetPort && (value & 4) !== 0) return this.#host.onEnd('reset');
    if (isKeyboard(port)) {
      if (this.#keyboard.write(port, value)) this.#host.onEnd('reset');
      return;
    }
    if (port !== powerPorts.control || (value & sleepEnable) === 0) return;
    if (((value >> 10) & 7) === sleepTypeOff) this.#host.onEnd('halted');
  }

  /** Tells the clock's memory the size of the computer's memory. */
  setMemory(ranges: readonly MemoryRange[]): void {
    const [low, high] = ranges;
    const { words } = this.state;
    words[Word.lowMemory] = Math.max(0, Math.floor((low!.length - 0x1000000) / 0x10000));
    words[Word.highMemory] = Math.floor((high?.length ?? 0) / 0x10000);
  }

  /** An access to an address where nothing is mapped: the trap of [SYS] fig. 6. */
  readMemory(address: number, size: number): number {
    if (this.flash?.covers(address, size)) return this.flash.read(address, size);
    const hit = this.pci.find(address, size);
    if (!hit) return this.#trap.read(nowhere, size);
    if (hit.slot.msix?.covers(hit.offset, size)) return hit.slot.msix.read(hit.offset, size);
    return this.#trap.read(hit.slot.device!.barBase + hit.offset, size);
  }

  writeMemory(address: number, size: number, value: number): void {
    if (this.flash?.covers(address, size)) return this.flash.write(address, size, value);
    const hit = this.pci.find(address, size);
    if (!hit) return void this.#trap.write(nowhere, size, value);
    if (hit.slot.msix?.covers(hit.offset, size)) return hit.slot.msix.write(hit.offset, size, value);
    this.#trap.write(hit.slot.device!.barBase + hit.offset, size, value);
  }

  /** Passes on the bytes that the guest has sent. */
  takeOutput(): void {
    Atomics.store(this.state.words, Word.outputTold, 0);
    for (const byte of this.state.locked(() => this.#ports.uart.takeOutput())) this.#host.onSerial(byte);
  }

  /** Puts as many bytes into the serial port as it takes. Returns their number. */
  giveInput(bytes: Uint8Array): number {
    return this.state.locked(() => {
      const { uart } = this.#ports;
      const count = Math.min(uart.room, bytes.length);
      for (const byte of bytes.subarray(0, count)) uart.receive(byte);
      this.state.words[Word.inputWaits] = count < bytes.length ? 1 : 0;
      return count;
    });
  }

  /** The state for a snapshot. No processor may run. Passes on the guest's output first. */
  save(): BoardState {
    this.takeOutput();
    const { words } = this.state;
    const registers = {} as Record<RegisterName, number>;
    for (const name of registerNames) registers[name] = words[Word[name]]! >>> 0;
    const functions = this.pci.functions.map(([slot, { config, msix }]) => ({
      slot,
      config: Uint8Array.from(config),
      ...(msix?.save() ?? { table: new Uint8Array(0), pending: new Uint8Array(0) }),
    }));
    const { input } = this.#ports.uart;
    const [keyboard, fwCfg, flash] = [this.#keyboard.save(), this.fwCfg?.save(), this.flash?.save()];
    return { registers, input, keyboard, fwCfg, flash, functions };
  }

  /** True if `state` is that of a board with the same flash and PCI functions. */
  matches({ functions, flash }: BoardState): boolean {
    const own = this.pci.functions;
    return (
      flash?.content.length === this.flash?.size &&
      functions.length === own.length &&
      functions.every(({ slot, config, table, pending }, i) => {
        const [ownSlot, { config: ownConfig, msix }] = own[i]!;
        const sizes = msix?.save();
        return (
          slot === ownSlot &&
          [0, 1, 2, 3].every((at) => config[at] === ownConfig[at]) &&
          table.length === (sizes?.table.length ?? 0) &&
          pending.length === (sizes?.pending.length ?? 0)
        );
      })
    );
  }

  /** Restores a state that {@link matches}. No processor may run. */
  restore(state: BoardState): void {
    const { words } = this.state;
    const { uart } = this.#ports;
    for (const name of registerNames) words[Word[name]] = (state.registers[name] & registerBits[name]) | 0;
    words[Word.inputRead] = words[Word.inputWritten]!;
    for (const byte of state.input.subarray(0, uart.room)) uart.receive(byte);
    this.#keyboard.restore(state.keyboard);
    if (state.fwCfg) this.fwCfg?.restore(state.fwCfg);
    if (state.flash) this.flash?.restore(state.flash);
    state.functions.forEach(({ config, table, pending }, i) => {
      const [, own] = this.pci.functions[i]!;
      own.msix?.restore(table, pending);
      // Like the guest's own writes: bits that it cannot set stay as they are.
      const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
      for (let offset = 4; offset < config.length; offset += 4) own.write(offset, 4, view.getUint32(offset, true));
    });
    // The kernel's controllers have the level of the line, but not that the port asserts it.
    if (words[Word.uartLine] === 1) this.#host.setInput(uartInterrupt, true);
  }

  /** A processor's thread has seen that the guest took input. */
  room(): void {
    this.#host.onRoom();
  }
}

function isKeyboard(port: number): boolean {
  return port === i8042Ports.data || port === i8042Ports.command;
}
