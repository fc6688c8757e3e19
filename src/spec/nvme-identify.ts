/**
 * Identify data structures (NVMe 1.4 §5.15.2). Fields left at zero are not supported or not
 * reported.
 */
import { putAscii } from './ascii.js';

/** Names of the controller and its namespace, as identify structures report them. */
export interface NvmeIdentity {
  /** Up to 20 ASCII characters. */
  readonly serial: string;
  /** Up to 40 ASCII characters. */
  readonly model: string;
  /** Up to 8 ASCII characters. */
  readonly firmware: string;
  /** UUID of the namespace, 16 bytes (descriptor type 3). */
  readonly uuid: Uint8Array;
}

export interface NamespaceFacts {
  /** Size in logical blocks. */
  readonly blocks: number;
  /** Bytes a logical block: 512 or 4096. */
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly trim: boolean;
  readonly volatileWriteCache: boolean;
}

/** §5.15.2.2, MDTS: the largest data transfer is 4096 << mdts bytes. */
export const mdts = 9;
/**
 * Largest number of Abort and Asynchronous Event Request commands in flight (0-based in the
 * structure).
 */
export const abortLimit = 4;
export const asyncEventLimit = 4;
/** Entries in the error log (0-based in the structure). */
export const errorLogEntries = 16;

/** §5.15.2.2 Identify controller, 4096 bytes. */
export function identifyController(
  identity: NvmeIdentity,
  facts: NamespaceFacts,
  vendor: number,
  shadowDoorbells: boolean,
): Uint8Array {
  const data = new Uint8Array(4096);
  const view = new DataView(data.buffer);
  view.setUint16(0, vendor, true); // VID
  view.setUint16(2, vendor, true); // SSVID
  putAscii(data, 4, 20, identity.serial); // SN
  putAscii(data, 24, 40, identity.model); // MN
  putAscii(data, 64, 8, identity.firmware); // FR
  data[72] = 6; // RAB, recommended arbitration burst: 64 commands
  data[77] = mdts; // MDTS
  view.setUint16(78, 1, true); // CNTLID
  view.setUint32(80, 0x00010400, true); // VER: 1.4
  view.setUint32(92, 1 << 8, true); // OAES: namespace attribute notices
  data[111] = 1; // CNTRLTYPE: I/O controller
  view.setUint16(256, shadowDoorbells ? 1 << 8 : 0, true); // OACS: Doorbell Buffer Config
  data[258] = abortLimit - 1; // ACL
  data[259] = asyncEventLimit - 1; // AERL
  data[260] = 0b11; // FRMW: one slot, read-only
  // LPA: commands supported and effects log; 32-bit offsets and lengths in Get Log Page
  data[261] = 0b110;
  data[262] = errorLogEntries - 1; // ELPE
  view.setUint16(266, 343, true); // WCTEMP, kelvin
  view.setUint16(268, 353, true); // CCTEMP
  data[512] = 0x66; // SQES: 64 bytes
  data[513] = 0x44; // CQES: 16 bytes
  view.setUint32(516, 1, true); // NN
  // ONCS: dataset management, write zeroes
  view.setUint16(520, (facts.trim ? 1 << 2 : 0) | (1 << 3), true);
  // VWC: bit 0, there is a volatile cache; a flush may address all namespaces
  data[525] = (facts.volatileWriteCache ? 0b001 : 0) | 0b110;
  putAscii(data, 768, 256, `nqn.2026-11.org.farbus:nvme:${identity.serial}`, 0); // SUBNQN
  view.setUint16(2048, 1, true); // PSD0: maximum power, in units of 10 mW
  return data;
}

/** §5.15.2.1 Identify namespace, 4096 bytes. */
export function identifyNamespace(identity: NvmeIdentity, facts: NamespaceFacts): Uint8Array {
  const data = new Uint8Array(4096);
  const view = new DataView(data.buffer);
  const blocks = BigInt(facts.blocks);
  view.setBigUint64(0, blocks, true); // NSZE
  view.setBigUint64(8, blocks, true); // NCAP
  view.setBigUint64(16, blocks, true); // NUSE
  data[99] = facts.readOnly ? 1 : 0; // NSATTR: write protected
  data.set(identity.uuid, 104); // NGUID
  data[128 + 2] = Math.log2(facts.blockSize); // LBAF0.LBADS
  return data;
}

/** §5.15.2.3 Active namespace ID list: the identifiers greater than `nsid`. */
export function activeNamespaces(nsid: number): Uint8Array {
  const data = new Uint8Array(4096);
  if (nsid === 0) data[0] = 1;
  return data;
}

/** §5.15.2.4 Namespace identification descriptors: NGUID and UUID. */
export function namespaceDescriptors(identity: NvmeIdentity): Uint8Array {
  const data = new Uint8Array(4096);
  let at = 0;
  for (const type of [2, 3]) {
    data[at] = type; // NIDT
    data[at + 1] = 16; // NIDL
    data.set(identity.uuid, at + 4);
    at += 20;
  }
  return data;
}
