/**
 * PCI configuration space of one of our functions (PCI Local Bus 3.0, chapter 6, type 0 header).
 *
 * Left out: MSI and MSI-X, which the board adds if it has them.
 */

export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** Class code (§6.2.1, appendix D): base class, subclass, programming interface. */
  readonly classCode: readonly [base: number, sub: number, interface_: number];
  /** Number of the BAR that holds the registers: 0 for NVMe, 5 for AHCI. Default 0. */
  readonly barIndex?: number;
  readonly barBase: number;
  /** 0 for none, 1 for INTA#. */
  readonly interruptPin: number;
  /** Capabilities (§6.7) in their order, at most 176 bytes. Their links are filled in. */
  readonly capabilities?: readonly Uint8Array[];
}

/** Where capabilities begin. The board has the place before them, for its own. */
const capabilitiesAt = 0x50;

/** Builds a type 0 header of 256 bytes. */
export function pciConfig(id: PciIdentity): Uint8Array {
  const space = new Uint8Array(256);
  const view = new DataView(space.buffer);
  view.setUint16(0x00, id.vendor, true);
  view.setUint16(0x02, id.device, true);
  // §6.2.2, command: the operating system enables memory and bus mastering.
  view.setUint16(0x04, 0x0000, true);
  view.setUint8(0x08, id.revision);
  view.setUint8(0x09, id.classCode[2]);
  view.setUint8(0x0a, id.classCode[1]);
  view.setUint8(0x0b, id.classCode[0]);
  // §6.2.5.1: memory, 32-bit, not prefetchable.
  view.setUint32(0x10 + 4 * (id.barIndex ?? 0), id.barBase, true);
  view.setUint16(0x2c, id.vendor, true);
  view.setUint16(0x2e, id.device, true);
  view.setUint8(0x3d, id.interruptPin);
  let at = capabilitiesAt;
  let link = 0x34;
  for (const capability of id.capabilities ?? []) {
    // §6.2.3, status: there is a capability list.
    space[0x06] = 0x10;
    space.set(capability, at);
    space[at + 1] = 0;
    space[link] = at;
    link = at + 1;
    at += Math.ceil(capability.length / 4) * 4;
  }
  return space;
}
