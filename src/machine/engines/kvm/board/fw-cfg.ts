/**
 * `fw_cfg`: the device by which QEMU gives facts and files to firmware (QEMU, docs/specs/fw_cfg,
 * cited as [FW]): a selector at I/O port 0x510, data at 0x511, and DMA by the address register at
 * 0x514. SeaBIOS and OVMF read the memory map, the ACPI tables and the boot order here.
 *
 * Left out: items that the guest may write.
 */

export const fwCfgPorts = { first: 0x510, last: 0x51b } as const;
const selectorPort = 0x510;
const dataPort = 0x511;
const addressPort = 0x514;

/** Selectors of items ([FW] "Configuration items"; QEMU, standard-headers/linux/qemu_fw_cfg.h). */
export const FwCfgItem = {
  signature: 0x00,
  interfaces: 0x01,
  ramSize: 0x03,
  processors: 0x05,
  maxProcessors: 0x0f,
  directory: 0x19,
  firstFile: 0x20,
} as const;

/** Bits of a DMA access's control word. Bits 16 to 31 are a selector. */
const Control = { error: 1, read: 2, skip: 4, select: 8, write: 16 } as const;
/** Size of a DMA access's description: control, length, address; all big-endian. */
const accessBytes = 16;
/**
 * Most bytes of one DMA access, because the event loop waits for it. Firmware reads whole files,
 * which are far smaller.
 */
const maxAccess = 16 << 20;
const text = new TextEncoder();
/** The value of the address register when it is read. */
const addressSignature = text.encode('QEMU CFG');

export interface FwCfgContent {
  /** Items by their selector. */
  readonly items: ReadonlyMap<number, Uint8Array>;
  /** Files by their name of at most 55 characters. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Guest memory for DMA; undefined if the range is not memory. */
export type DmaView = (address: number, length: number) => Uint8Array | undefined;

/** Its state, as a snapshot holds it. */
export interface FwCfgState {
  readonly selector: number;
  readonly offset: number;
  readonly addressHigh: number;
}

export class FwCfg {
  readonly #items: Map<number, Uint8Array>;
  readonly #view: DmaView;
  #selector = -1;
  #item: Uint8Array = new Uint8Array(0);
  #offset = 0;
  /** High and low half of the address register. */
  #addressHigh = 0;

  constructor({ items, files }: FwCfgContent, view: DmaView) {
    this.#view = view;
    this.#items = new Map(items);
    this.#items.set(FwCfgItem.signature, text.encode('QEMU'));
    this.#items.set(FwCfgItem.interfaces, Uint8Array.of(3, 0, 0, 0)); // by ports, and by DMA
    this.#items.set(FwCfgItem.directory, directory(files));
    [...files.values()].forEach((content, i) => this.#items.set(FwCfgItem.firstFile + i, content));
  }

  read(port: number, size: number): number {
    let value = 0;
    if (port === dataPort && size === 1) return this.#item[this.#offset++] ?? 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (addressSignature[port - addressPort + i] ?? 0);
    return value;
  }

  write(port: number, size: number, value: number): void {
    if (port === selectorPort && size === 2) this.#select(value);
    if (size !== 4) return;
    if (port === addressPort) this.#addressHigh = swap(value);
    if (port !== addressPort + 4) return;
    const address = this.#addressHigh * 2 ** 32 + swap(value);
    this.#addressHigh = 0;
    this.#access(address);
  }

  save(): FwCfgState {
    return { selector: this.#selector, offset: this.#offset, addressHigh: this.#addressHigh };
  }

  restore({ selector, offset, addressHigh }: FwCfgState): void {
    this.#select(selector);
    this.#offset = Math.min(offset, this.#item.length);
    this.#addressHigh = addressHigh;
  }

  #select(selector: number): void {
    this.#selector = selector;
    this.#item = this.#items.get(selector) ?? new Uint8Array(0);
    this.#offset = 0;
  }

  /** [FW] "Guest-side DMA Interface". */
  #access(address: number): void {
    const description = this.#view(address, accessBytes);
    if (!description) return; // there is no place for an answer
    const view = new DataView(description.buffer, description.byteOffset, accessBytes);
    const control = view.getUint32(0);
    const length = view.getUint32(4);
    const target = Number(view.getBigUint64(8));
    if ((control & Control.select) !== 0) this.#select(control >>> 16);
    view.setUint32(0, this.#transfer(control, length, target) ? 0 : Control.error);
  }

  /** @returns false if the access cannot be done */
  #transfer(control: number, length: number, target: number): boolean {
    if ((control & Control.read) !== 0) {
      const memory = length <= maxAccess ? this.#view(target, length) : undefined;
      if (!memory) return false;
      const content = this.#item.subarray(this.#offset, this.#offset + length);
      memory.set(content);
      memory.fill(0, content.length); // beyond its end, an item reads as zeros
    } else if ((control & Control.write) !== 0) {
      return false;
    } else if ((control & Control.skip) === 0) {
      return true;
    }
    this.#offset = Math.min(this.#offset + length, this.#item.length);
    return true;
  }
}

/** [FW] "File Directory": a count, and 64 bytes for each file; big-endian. */
function directory(files: FwCfgContent['files']): Uint8Array {
  const bytes = new Uint8Array(4 + 64 * files.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, files.size);
  [...files].forEach(([name, content], i) => {
    const at = 4 + 64 * i;
    view.setUint32(at, content.length);
    view.setUint16(at + 4, FwCfgItem.firstFile + i);
    bytes.set(text.encode(name).subarray(0, 55), at + 8);
  });
  return bytes;
}

function swap(value: number): number {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setUint32(0, value);
  return bytes.getUint32(0, true);
}
