/**
 * The board of the KVM engine with one controller, for the drivers of tests: PCI configuration, the
 * decoding of the BAR, the trap, and MSI or MSI-X as the driver has set it up. There is no
 * processor and no kernel.
 */
import { Steps } from '../../src/base/steps.js';
import { Board } from '../../src/machine/engines/kvm/board/board.js';
import { pciConfig } from '../../src/machine/pci.js';
import { TrapHandler, type GuardedDevice } from '../../src/machine/trap.js';
import type { DriverFunction, DriverRegisters } from './driver-board.js';

const slot = 8;
/** Place of the board's capability for messages. */
const capability = 0x40;
/** Where messages go: the local APIC of processor 0. */
const apic = 0xfee00000;
/** Vector of the first message. */
const firstVector = 0x30;

export function kvmBoard(device: GuardedDevice, { barIndex, msix, msi }: DriverFunction): DriverRegisters {
  const trap = new TrapHandler(new Steps());
  let told: (vector: number) => void = () => undefined;
  const board = new Board(trap, {
    setInput: () => undefined,
    sendMessage: (address, data) => {
      if (address !== apic) throw new Error(`a message went to 0x${address.toString(16)}`);
      told(data - firstVector);
    },
    onSerial: () => undefined,
    onRoom: () => undefined,
    onEnd: () => undefined,
  });
  const { name, base: barBase, size: barSize } = device;
  trap.guard(device);
  const identity = { vendor: 0xfb05, device: 1, classCode: [1, 8, 2], revision: 1, interruptPin: 1 } as const;
  const config = pciConfig({ ...identity, barIndex, barBase });
  const place = board.pci.add({ name, slot, config, barIndex, barBase, barSize, msix, msi }, () => undefined);
  const configure = (offset: number, size: number, value: number) => {
    board.writePort(0xcf8, 4, (0x80000000 | (slot << 11) | (offset & 0xfc)) >>> 0);
    board.writePort(0xcfc + (offset & 3), size, value);
  };
  configure(4, 2, 7); // memory, bus master
  return {
    read: (offset, size) => board.readMemory(barBase + offset, size),
    write: (offset, size, value) => board.writeMemory(barBase + offset, size, value),
    messages(receive) {
      told = receive;
      for (let vector = 0; vector < (msix?.vectors ?? 0); vector++) {
        const entry = barBase + msix!.tableOffset + 16 * vector;
        [apic, 0, firstVector + vector, 0].forEach((word, i) => board.writeMemory(entry + 4 * i, 4, word));
      }
      if (msix) configure(capability + 2, 2, 0x8000);
      else {
        configure(capability + 4, 4, apic);
        configure(capability + 12, 2, firstVector);
        configure(capability + 2, 2, 1);
      }
      return place.messages!;
    },
  };
}
