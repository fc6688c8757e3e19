/**
 * Puts firmware on the board: its ROM at the end of the first 4 GiB, the flash with UEFI's
 * variables below it, the facts and files that it reads, and the functions that it looks for.
 */
import type { BootPlace, Firmware } from '../../engine.js';
import { acpiTables } from './board/acpi.js';
import type { Board } from './board/board.js';
import { firmwareContent } from './board/firmware-content.js';
import { Flash, flashBlock } from './board/flash.js';
import { FwCfg } from './board/fw-cfg.js';
import type { KvmMemory } from './memory.node.js';
import { Rom } from './rom.node.js';

const fourGiB = 2 ** 32;
/** Firmware and flash are above the pages that KVM needs for itself. */
const maxFirmware = 16 << 20;
/** Numbers of memory slots; memory.node.ts has the first two. */
const romSlot = 8;
const flashSlot = 9;
/** A PC shows the end of its ROM below 1 MiB as well, where 16-bit code can reach it. */
const lowEnd = 0x100000;
const maxLowCopy = 0x20000;

export interface FirmwarePlace {
  readonly vm: number;
  readonly memory: KvmMemory;
  readonly board: Board;
  readonly processors: number;
  readonly inputOf: (slot: number) => number;
  readonly order: readonly BootPlace[];
  /** The computer continues from a snapshot, which has the content of the memory. */
  readonly continues?: boolean | undefined;
}

/** @returns the ROMs, to be kept as long as the machine exists */
export function placeFirmware(firmware: Firmware, place: FirmwarePlace): readonly Rom[] {
  const { vm, memory, board, processors, inputOf, order, continues = false } = place;
  const { bios, variables } = firmware;
  const flashBytes = variables?.content.length ?? 0;
  if (bios.length + flashBytes > maxFirmware || flashBytes % flashBlock !== 0)
    throw new RangeError('the firmware has an impossible size');
  const roms = [new Rom(vm, romSlot, fourGiB - bios.length, bios)];
  // Firmware finds this copy in memory that it may write, as if it had shadowed it.
  const low = bios.subarray(-maxLowCopy);
  if (!continues) memory.area(lowEnd - low.length, low.length).set(low);
  if (variables) {
    const start = fourGiB - bios.length - flashBytes;
    const rom = new Rom(vm, flashSlot, start, variables.content);
    roms.push(rom);
    board.flash = new Flash(start, rom.bytes, {
      show: (shown) => rom.show(shown),
      changed: () => variables.changed(rom.bytes),
    });
  }
  const tables = acpiTables({ processors, inputOf });
  const content = firmwareContent({ memory: memory.ranges, processors, tables, order });
  board.pci.addChipset(variables !== undefined);
  board.fwCfg = new FwCfg(content, (address, length) => memory.biosView(address, length));
  return roms;
}
