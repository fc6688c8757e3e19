/** The board's place in the capability list of a PCI function (PCI Local Bus 3.0, §6.7). */

/** Sends one message: a write of `data` to the interrupt controllers' `address`. */
export type SendMessage = (address: number, data: number) => void;

/**
 * Offset of the board's capability in the configuration space. The function's own begin at 0x50
 * (machine/pci.ts).
 */
export const capabilityAt = 0x40;

/** Puts the board's capability before the function's own. */
export function addCapability(config: Uint8Array, id: number): void {
  config[0x06] = config[0x06]! | 0x10; // status: there is a capability list
  config[capabilityAt] = id;
  config[capabilityAt + 1] = config[0x34]!;
  config[0x34] = capabilityAt;
}
