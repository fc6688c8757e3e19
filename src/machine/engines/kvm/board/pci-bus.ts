/**
 * PCI bus 0 with its host bridge, by configuration mechanism #1 (PCI Local Bus 3.0, §3.2.2.3.2):
 * I/O ports 0xcf8 (address) and 0xcfc to 0xcff (data).
 *
 * Each function has one memory BAR, which the guest may move and switch off, and may have MSI
 * (§6.8.1), or MSI-X (§6.8.2), whose table and pending bits are in that BAR.
 *
 * Left out: bridges to other buses, I/O BARs, ROMs.
 */
import type { MessageInterrupts, PciFunction } from '../../../engine.js';
import { powerPorts } from './acpi.js';
import type { SendMessage } from './capability.js';
import { MsiCapability } from './msi.js';
import { MsixTable } from './msix.js';
import { pciTarget, powerFunctionSlot } from './ports.js';
import { Word, type SharedState } from './shared-state.js';

/** Host bridge: an Intel 440FX, which firmware and systems know. */
const hostBridge = { vendor: 0x8086, device: 0x1237, classCode: [0x06, 0x00, 0x00] } as const;
/**
 * Firmware knows a board with `fw_cfg` by this subsystem of the host bridge. With Intel's PIIX3 (an
 * ISA bridge) in slot 1, SeaBIOS makes the interrupt lines of PCI level-triggered.
 */
const qemuSubsystem = { vendor: 0x1af4, device: 0x1100 } as const;
const isaBridge = { slot: 1, vendor: 0x8086, device: 0x7000, classCode: [0x06, 0x01, 0x00] } as const;
/**
 * UEFI finds the power management registers by Intel's PIIX4 (power management function). They are
 * at their ports already: the base register, and the bit that enables it, cannot be changed.
 */
const powerFunction = { vendor: 0x8086, device: 0x7113, classCode: [0x06, 0x80, 0x00] } as const;
const PowerConfig = { base: 0x40, misc: 0x80 } as const;
const Config = {
  command: 0x04,
  status: 0x06,
  revision: 0x08,
  cacheLine: 0x0c,
  latency: 0x0d,
  headerType: 0x0e,
  bar0: 0x10,
  subsystem: 0x2c,
  capabilities: 0x34,
  line: 0x3c,
} as const;
/** Command: respond to memory accesses. */
const memoryEnable = 0x02;
/** Command: bits that software may set: I/O, memory, bus master, parity, SERR#, no interrupt. */
const commandBits = 0x0547;
const noInterruptLine = 0x0400;

/** An access that hit a function's BAR. */
export interface BarHit {
  readonly slot: PciSlot;
  /** Offset in the BAR, in bytes. */
  readonly offset: number;
}

/** A function on the bus. */
export class PciSlot {
  readonly device: PciFunction | undefined;
  readonly config: Uint8Array;
  readonly msix: MsixTable | undefined;
  readonly #msi: MsiCapability | undefined;
  readonly #view: DataView;
  readonly #changed: () => void;

  constructor(config: Uint8Array, device: PciFunction | undefined, send: SendMessage, changed: () => void) {
    this.config = config;
    this.device = device;
    this.#view = new DataView(config.buffer, config.byteOffset, config.byteLength);
    this.#changed = changed;
    if (device?.msix) this.msix = new MsixTable(device.msix, device.barIndex ?? 0, config, send);
    else if (device?.msi) this.#msi = new MsiCapability(config, send);
  }

  /** Interrupts by message; undefined if the function has none. */
  get messages(): MessageInterrupts | undefined {
    return this.msix ?? this.#msi;
  }

  /** Guest-physical address of the BAR; undefined while it is switched off. */
  get barAt(): number | undefined {
    if (!this.device || (this.#view.getUint16(Config.command, true) & memoryEnable) === 0) return undefined;
    return this.#view.getUint32(this.#bar, true) & ~0xf
      ? (this.#view.getUint32(this.#bar, true) & ~0xf) >>> 0
      : undefined;
  }

  /** True if the guest has forbidden the interrupt line. */
  get lineForbidden(): boolean {
    return (this.#view.getUint16(Config.command, true) & noInterruptLine) !== 0;
  }

  get #bar(): number {
    return Config.bar0 + 4 * (this.device?.barIndex ?? 0);
  }

  write(offset: number, size: number, value: number): void {
    const bar = this.#bar;
    if (this.device && offset >= bar && offset < bar + 4) {
      if (size === 4) this.#view.setUint32(bar, (value & ~(this.device.barSize - 1)) >>> 0, true);
    } else if (offset >= Config.bar0 && offset < Config.bar0 + 24) {
      return; // the other BARs do not exist
    } else {
      for (let i = 0; i < size; i++) this.#writeByte(offset + i, (value >>> (8 * i)) & 0xff);
    }
    this.#changed();
  }

  #writeByte(offset: number, value: number): void {
    const { config } = this;
    if (offset === Config.command) config[offset] = value & commandBits & 0xff;
    else if (offset === Config.command + 1) config[offset] = value & (commandBits >> 8);
    else if (offset === Config.cacheLine || offset === Config.latency || offset === Config.line) config[offset] = value;
    else (this.msix ?? this.#msi)?.writeConfig(offset, value);
  }
}

export class PciBus {
  readonly #slots = new Map<number, PciSlot>();
  readonly #send: SendMessage;
  readonly #state: SharedState;

  constructor(state: SharedState, send: SendMessage) {
    this.#state = state;
    this.#send = send;
    this.#addBridge(0, hostBridge);
  }

  /** Adds the functions that firmware looks for, and for UEFI power management. */
  addChipset(withPower = false): void {
    this.#addBridge(isaBridge.slot, isaBridge);
    if (withPower) this.#addPower();
    const config = this.#config(0);
    const view = new DataView(config.buffer, config.byteOffset);
    view.setUint16(Config.subsystem, qemuSubsystem.vendor, true);
    view.setUint16(Config.subsystem + 2, qemuSubsystem.device, true);
  }

  #addPower(): void {
    this.#state.config(isaBridge.slot)[Config.headerType] = 0x80; // several functions
    this.#addBridge(powerFunctionSlot, powerFunction);
    const config = this.#state.config(powerFunctionSlot);
    new DataView(config.buffer, config.byteOffset).setUint32(PowerConfig.base, powerPorts.event | 1, true);
    config[PowerConfig.misc] = 1;
    // Linux does not trust the power management timer of earlier revisions of the PIIX4.
    config[Config.revision] = 3;
    this.#state.words[Word.powerFunction] = 1;
  }

  /** A function without registers of its own. */
  #addBridge(
    slot: number,
    { vendor, device, classCode }: typeof hostBridge | typeof isaBridge | typeof powerFunction,
  ): void {
    const config = this.#config(slot);
    const view = new DataView(config.buffer, config.byteOffset);
    view.setUint16(0, vendor, true);
    view.setUint16(2, device, true);
    config.set([classCode[2], classCode[1], classCode[0]], 9);
    this.#slots.set(slot, new PciSlot(config, undefined, this.#send, () => undefined));
  }

  /** Puts a function on the bus. `changed` is called when its configuration has changed. */
  add(device: PciFunction, changed: () => void): PciSlot {
    const config = this.#config(device.slot);
    config.set(device.config.subarray(0, 256));
    const slot = new PciSlot(config, device, this.#send, changed);
    this.#slots.set(device.slot, slot);
    return slot;
  }

  /** The configuration space of a slot, which now has a function. */
  #config(slot: number): Uint8Array {
    const { words } = this.#state;
    if (slot < 32) words[Word.pciPresent] = words[Word.pciPresent]! | (1 << slot);
    return this.#state.config(slot);
  }

  /** The functions with their slots, in ascending order. */
  get functions(): readonly (readonly [slot: number, function_: PciSlot])[] {
    return [...this.#slots].sort(([a], [b]) => a - b);
  }

  /** Finds the function whose BAR contains [address, address + size). */
  find(address: number, size: number): BarHit | undefined {
    for (const slot of this.#slots.values()) {
      const at = slot.barAt;
      if (at === undefined || address < at || address + size > at + slot.device!.barSize) continue;
      return { slot, offset: address - at };
    }
    return undefined;
  }

  /** Writes through the data port. Accesses to empty places have no effect. */
  writePort(port: number, size: number, value: number): void {
    const at = pciTarget(this.#state, port, size);
    if (at) this.#slots.get(at.slot)?.write(at.offset, size, value);
  }
}
