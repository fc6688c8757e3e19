/**
 * Frame information structures (FIS, Serial ATA 3.0 §10.3): those that the driver puts into a
 * command table, and those that the device sends to the received FIS area.
 *
 * Left out: BIST and data FISes, which software never sees.
 */
import type { ResultFile, TaskFile } from './ata.js';

/** §10.3.1 FIS types. */
const FisType = {
  h2dRegister: 0x27,
  d2hRegister: 0x34,
  dmaSetup: 0x41,
  pioSetup: 0x5f,
  setDeviceBits: 0xa1,
} as const;

/** §10.3.4: bit 7 (C) of byte 1 of a host-to-device FIS: 1 for a command, 0 for device control. */
const fisIsCommand = 0x80;
/** Bits of byte 1: interrupt (§10.3.5), notification (§10.3.6), device to host (§10.3.9). */
const fisInterrupt = 0x40;
const fisNotification = 0x80;
const fisDeviceToHost = 0x20;

/** §11: the signature that each kind of device sends after a reset. */
export const Signature = { ata: 0x00000101, atapi: 0xeb140101, none: 0xffffffff } as const;

/** A host-to-device register FIS (§10.3.4). */
export interface HostFis extends TaskFile {
  readonly isCommand: boolean;
  readonly control: number;
}

/**
 * Decodes the 20 bytes of a host-to-device register FIS. Returns undefined if it is of another
 * type.
 */
export function decodeHostFis(fis: Uint8Array): HostFis | undefined {
  if (fis.length < 20 || fis[0] !== FisType.h2dRegister) return undefined;
  const low = fis[4]! | (fis[5]! << 8) | (fis[6]! << 16);
  const high = fis[8]! | (fis[9]! << 8) | (fis[10]! << 16);
  return {
    isCommand: (fis[1]! & fisIsCommand) !== 0,
    command: fis[2]!,
    features: fis[3]! | (fis[11]! << 8),
    lba: high * 0x1000000 + low,
    device: fis[7]!,
    count: fis[12]! | (fis[13]! << 8),
    control: fis[15]!,
  };
}

/** §10.3.5 Register – device to host, 20 bytes. */
export function d2hFis(result: ResultFile, interrupt: boolean): Uint8Array {
  const fis = new Uint8Array(20);
  registers(fis, FisType.d2hRegister, interrupt ? fisInterrupt : 0, result);
  return fis;
}

/**
 * §10.3.11 PIO setup, 20 bytes.
 * @param ending Status after the data has been transferred.
 */
export function pioSetupFis(result: ResultFile, ending: number, transfer: number, toHost: boolean): Uint8Array {
  const fis = new Uint8Array(20);
  registers(fis, FisType.pioSetup, fisInterrupt | (toHost ? fisDeviceToHost : 0), result);
  fis[15] = ending;
  fis[16] = transfer & 0xff;
  fis[17] = (transfer >> 8) & 0xff;
  return fis;
}

/** §10.3.9 DMA setup, 28 bytes: names the queued command whose data comes next. */
export function dmaSetupFis(tag: number, transfer: number, toHost: boolean): Uint8Array {
  const fis = new Uint8Array(28);
  fis[0] = FisType.dmaSetup;
  fis[1] = toHost ? fisDeviceToHost : 0;
  const view = new DataView(fis.buffer);
  view.setUint32(4, tag, true); // DMA buffer identifier low: the tag, which is the slot
  view.setUint32(20, transfer, true);
  return fis;
}

/**
 * §10.3.6 Set device bits, 8 bytes.
 * @param active The queued commands that have completed, one bit each.
 */
export function setDeviceBitsFis(status: number, error: number, active: number, notification = false): Uint8Array {
  const fis = new Uint8Array(8);
  fis[0] = FisType.setDeviceBits;
  fis[1] = fisInterrupt | (notification ? fisNotification : 0);
  fis[2] = status & 0x77; // the FIS carries neither BSY nor DRQ
  fis[3] = error;
  new DataView(fis.buffer).setUint32(4, active >>> 0, true);
  return fis;
}

function registers(fis: Uint8Array, type: number, flags: number, result: ResultFile): void {
  const high = Math.floor(result.lba / 0x1000000);
  fis[0] = type;
  fis[1] = flags;
  fis[2] = result.status;
  fis[3] = result.error;
  fis[4] = result.lba & 0xff;
  fis[5] = (result.lba >> 8) & 0xff;
  fis[6] = (result.lba >> 16) & 0xff;
  fis[7] = result.device;
  fis[8] = high & 0xff;
  fis[9] = (high >> 8) & 0xff;
  fis[10] = (high >> 16) & 0xff;
  fis[12] = result.count & 0xff;
  fis[13] = (result.count >> 8) & 0xff;
}
