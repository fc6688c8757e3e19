/**
 * The board's quick I/O ports: the serial port, the clock, and reading PCI configuration spaces.
 * Each processor's thread answers them itself; their state is shared (shared-state.ts).
 *
 * An I/O port that nothing owns reads as ones and ignores writes, as an empty bus does.
 *
 * Not here: ports whose effects need the main thread (board.ts).
 */
import { powerPorts, resetPort } from './acpi.js';
import { readCmos } from './cmos.js';
import { fwCfgPorts } from './fw-cfg.js';
import { i8042Ports } from './i8042.js';
import { Word, type SharedState } from './shared-state.js';
import { Uart, uartBase, uartPorts } from './uart.js';

export const pciAddressPort = 0xcf8;
export const pciDataPort = 0xcfc;
/** System control port B: the timer's output toggles, so that loops that watch it end. */
const portB = 0x61;
const cmosIndexPort = 0x70;
const cmosDataPort = 0x71;

export class QuickPorts {
  readonly uart: Uart;
  readonly #state: SharedState;

  /** @param interrupt sets the level of the serial port's interrupt */
  constructor(state: SharedState, interrupt: (asserted: boolean) => void) {
    this.#state = state;
    this.uart = new Uart(state, interrupt);
  }

  /** Reads a port of `size` bytes; undefined if the main thread must do it. */
  read(port: number, size: number): number | undefined {
    const value = this.#state.locked(() => this.#read(port, size));
    // A register that is wider than the access is read in part.
    return value === undefined || size === 4 ? value : value & ones(size);
  }

  /** Writes a port. Returns false if the main thread must do it. */
  write(port: number, size: number, value: number): boolean {
    return this.#state.locked(() => this.#write(port, size, value));
  }

  #read(port: number, size: number): number | undefined {
    const { words } = this.#state;
    if (port >= uartBase && port < uartBase + uartPorts) return this.uart.read(port);
    if (port >= pciAddressPort && port < pciDataPort + 4) return this.#readPci(port, size);
    if (isFwCfg(port)) return undefined;
    switch (port) {
      case cmosIndexPort:
        return words[Word.cmosIndex]!;
      case cmosDataPort:
        return readCmos(words[Word.cmosIndex]!, new Date(), {
          low: words[Word.lowMemory]!,
          high: words[Word.highMemory]!,
        });
      case portB:
        return (words[Word.portB] = words[Word.portB]! ^ 0x30);
      case i8042Ports.data:
      case i8042Ports.command:
        return undefined;
      case powerPorts.event: // no event has happened
        return 0;
      case powerPorts.event + 2:
        return words[Word.powerEnable]!;
      case powerPorts.control:
        return 1; // ACPI is on
      case powerPorts.timer:
        return timerCount();
      default:
        return ones(size);
    }
  }

  #write(port: number, size: number, value: number): boolean {
    const { words } = this.#state;
    if (port >= uartBase && port < uartBase + uartPorts) {
      if (this.uart.full) return false;
      this.uart.write(port, value & 0xff);
      return true;
    }
    if (isFwCfg(port)) return false;
    switch (port) {
      case pciAddressPort:
        if (size === 4) words[Word.pciAddress] = value | 0;
        return true;
      case cmosIndexPort:
        words[Word.cmosIndex] = value & 0x7f;
        return true;
      case portB:
        words[Word.portB] = value & 0x0f;
        return true;
      case powerPorts.event + 2:
        words[Word.powerEnable] = value & 0xffff;
        return true;
      case resetPort:
      case i8042Ports.data:
      case i8042Ports.command:
      case powerPorts.control:
        return false;
      default:
        return port < pciDataPort || port >= pciDataPort + 4;
    }
  }

  /** PCI Local Bus 3.0, §3.2.2.3.2: configuration mechanism #1. */
  #readPci(port: number, size: number): number {
    const shift = 8 * (port & 3);
    const address = this.#state.words[Word.pciAddress]! >>> 0;
    if (port < pciDataPort) return size === 4 ? address : (address >>> shift) & ones(size);
    const at = pciTarget(this.#state, port, size);
    if (!at) return ones(size);
    const config = this.#state.config(at.slot);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + config[at.offset + i]!;
    return value;
  }
}

/** Function 3 of slot 1 in the PCI address register; and its number among configuration spaces. */
const powerFunctionAddress = 0x80000b00;
export const powerFunctionSlot = 32;

/** The power management timer: 24 bits that count at 3.579545 MHz (ACPI 6.5, §4.8.2.1). */
function timerCount(): number {
  const ms = performance.timeOrigin + performance.now();
  return Math.floor((ms * 3579.545) % 0x1000000);
}

/** The slot and the offset that the PCI address register selects; undefined for an empty place. */
export function pciTarget(
  state: SharedState,
  port: number,
  size: number,
): { slot: number; offset: number } | undefined {
  const address = state.words[Word.pciAddress]! >>> 0;
  if (
    (address & 0x80ffff00) >>> 0 === powerFunctionAddress &&
    state.words[Word.powerFunction] === 1 &&
    (port & 3) + size <= 4
  )
    return { slot: powerFunctionSlot, offset: (address & 0xfc) + (port & 3) };
  const elsewhere = address >>> 31 === 0 || (address & 0x00ff0700) !== 0;
  const slot = (address >>> 11) & 31;
  if (elsewhere || (state.words[Word.pciPresent]! & (1 << slot)) === 0 || (port & 3) + size > 4) return undefined;
  return { slot, offset: (address & 0xfc) + (port & 3) };
}

export function isFwCfg(port: number): boolean {
  return port >= fwCfgPorts.first && port <= fwCfgPorts.last;
}

export function ones(size: number): number {
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}
