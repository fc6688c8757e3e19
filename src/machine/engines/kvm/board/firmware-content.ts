/** The facts and files that firmware gets through `fw_cfg` (fw-cfg.ts). */
import { bootOrder } from '../../../boot/boot-order.js';
import type { BootPlace } from '../../../engine.js';
import type { MemoryRange } from '../../../guest-memory.js';
import type { AcpiTables } from './acpi.js';
import { FwCfgItem, type FwCfgContent } from './fw-cfg.js';
import { tableFiles } from './table-loader.js';
import { uartBase } from './uart.js';

export interface FirmwareFacts {
  readonly memory: readonly MemoryRange[];
  readonly processors: number;
  readonly tables: AcpiTables;
  readonly order: readonly BootPlace[];
}

export function firmwareContent({ memory, processors, tables, order }: FirmwareFacts): FwCfgContent {
  const size = memory.reduce((sum, { length }) => sum + length, 0);
  return {
    items: new Map([
      [FwCfgItem.ramSize, little(size, 8)],
      [FwCfgItem.processors, little(processors, 2)],
      [FwCfgItem.maxProcessors, little(processors, 2)],
    ]),
    files: new Map([
      ['etc/e820', memoryMap(memory)],
      ...tableFiles(tables),
      // SeaBIOS, docs/Runtime_config.md: the boot order; no boot menu, because it would wait for a
      // key; and the serial port as the console of programs that print by the BIOS.
      ['bootorder', bootOrder(order)],
      ['etc/show-boot-menu', little(0, 8)],
      ['etc/sercon-port', little(uartBase, 8)],
    ]),
  };
}

/** QEMU's "etc/e820": start, length and type (1 RAM) of each range, without padding. */
function memoryMap(memory: readonly MemoryRange[]): Uint8Array {
  const bytes = new Uint8Array(20 * memory.length);
  memory.forEach(({ start, length }, i) => {
    bytes.set(little(start, 8), 20 * i);
    bytes.set(little(length, 8), 20 * i + 8);
    bytes.set(little(1, 4), 20 * i + 16);
  });
  return bytes;
}

function little(value: number, bytes: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer, 0, bytes);
}
