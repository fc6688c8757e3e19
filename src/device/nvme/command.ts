/**
 * A submission queue entry (NVMe 1.4 §4.2, figure 105), decoded once from guest memory, so that the
 * guest cannot change it while the command is carried out.
 */

export interface NvmeCommand {
  readonly opcode: number;
  /** Command identifier, unique among the commands in flight of its submission queue. */
  readonly cid: number;
  /** PSDT, bits 15:14 of dword 0: 0 means that PRPs are used. */
  readonly psdt: number;
  /** Fused operation, bits 9:8 of dword 0. */
  readonly fuse: number;
  readonly nsid: number;
  /** PRP entries: guest-physical addresses of the data. NaN for addresses of 2^53 or more. */
  readonly prp1: number;
  readonly prp2: number;
  readonly dword10: number;
  readonly dword11: number;
  readonly dword12: number;
  readonly dword13: number;
  readonly dword14: number;
  readonly dword15: number;
}

/**
 * Reads an unsigned 64-bit number. NaN from 2^53 on, where a double is not exact; no valid address
 * or LBA is that large.
 */
export function uint64(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  return high > 0x1fffff ? NaN : high * 0x100000000 + view.getUint32(offset, true);
}

/** Decodes an entry of 64 bytes. */
export function decodeCommand(entry: Uint8Array): NvmeCommand {
  const view = new DataView(entry.buffer, entry.byteOffset, 64);
  const dword0 = view.getUint32(0, true);
  return {
    opcode: dword0 & 0xff,
    fuse: (dword0 >>> 8) & 3,
    psdt: (dword0 >>> 14) & 3,
    cid: dword0 >>> 16,
    nsid: view.getUint32(4, true),
    prp1: uint64(view, 24),
    prp2: uint64(view, 32),
    dword10: view.getUint32(40, true),
    dword11: view.getUint32(44, true),
    dword12: view.getUint32(48, true),
    dword13: view.getUint32(52, true),
    dword14: view.getUint32(56, true),
    dword15: view.getUint32(60, true),
  };
}

/** Result of an admin command: its status (spec/nvme.ts) and dword 0 of its completion. */
export interface AdminResult {
  readonly status: number;
  readonly result?: number;
}

/** Thrown by a command's handler to complete the command with a status. */
export class CommandError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`NVMe status 0x${status.toString(16)}`);
    this.status = status;
  }
}
