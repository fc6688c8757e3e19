/**
 * Log pages (NVMe 1.4 §5.14.1): errors, health, firmware slots, changed namespaces, commands
 * supported.
 */
import { errorLogEntries } from '../../spec/nvme-identify.js';
import { AdminOpcode, NvmOpcode } from '../../spec/nvme.js';

/** The counters of the health log. */
export interface Usage {
  readBytes: number;
  writtenBytes: number;
  readCommands: number;
  writeCommands: number;
}

/** One entry of the error log (§5.14.1.1). */
export interface ErrorEntry {
  readonly sqid: number;
  readonly cid: number;
  readonly status: number;
  readonly lba: number;
  readonly nsid: number;
}

export class Logs {
  readonly usage: Usage = { readBytes: 0, writtenBytes: 0, readCommands: 0, writeCommands: 0 };
  #errorCount = 0;
  readonly #errors: (ErrorEntry & { count: number })[] = [];
  /** True if the namespace changed and the driver has not read the log page about it yet. */
  namespaceChanged = false;

  addError(entry: ErrorEntry): void {
    this.#errors.unshift({ ...entry, count: ++this.#errorCount });
    this.#errors.length = Math.min(this.#errors.length, errorLogEntries);
  }

  /** §5.14.1.1: newest first, 64 bytes each. */
  errorLog(): Uint8Array {
    const data = new Uint8Array(errorLogEntries * 64);
    const view = new DataView(data.buffer);
    this.#errors.forEach((entry, i) => {
      const at = i * 64;
      view.setBigUint64(at, BigInt(entry.count), true);
      view.setUint16(at + 8, entry.sqid, true);
      view.setUint16(at + 10, entry.cid, true);
      view.setUint16(at + 12, (entry.status << 1) & 0xffff, true);
      view.setUint16(at + 14, 0xffff, true); // parameter error location: not reported
      view.setBigUint64(at + 16, BigInt(entry.lba), true);
      view.setUint32(at + 24, entry.nsid, true);
    });
    return data;
  }

  /** §5.14.1.2 SMART / Health. Data units are thousands of 512-byte units, rounded up. */
  healthLog(): Uint8Array {
    const data = new Uint8Array(512);
    const view = new DataView(data.buffer);
    // composite temperature in kelvin: a constant, since nothing here gets warm
    view.setUint16(1, 300, true);
    data[3] = 100; // available spare, percent
    data[4] = 10;
    const { readBytes, writtenBytes, readCommands, writeCommands } = this.usage;
    const counts = [Math.ceil(readBytes / 512000), Math.ceil(writtenBytes / 512000), readCommands, writeCommands];
    counts.forEach((count, i) => view.setBigUint64(32 + 16 * i, BigInt(count), true));
    view.setBigUint64(176, BigInt(this.#errorCount), true);
    return data;
  }

  /** §5.14.1.3: one firmware slot, which is active. */
  firmwareLog(revision: string): Uint8Array {
    const data = new Uint8Array(512);
    data[0] = 1;
    for (let i = 0; i < 8; i++) data[8 + i] = revision.charCodeAt(i) || 0x20;
    return data;
  }

  /** §5.14.1.4 Changed Namespace List. Reading it clears it. */
  changedNamespaces(): Uint8Array {
    const data = new Uint8Array(4096);
    if (this.namespaceChanged) data[0] = 1;
    this.namespaceChanged = false;
    return data;
  }

  /**
   * §5.14.1.5: for each command, bit 0 means supported, bit 1 that it changes the content of a
   * namespace.
   */
  commandsSupported(trim: boolean, shadowDoorbells: boolean): Uint8Array {
    const data = new Uint8Array(4096);
    const view = new DataView(data.buffer);
    for (const opcode of Object.values(AdminOpcode)) {
      if (opcode === AdminOpcode.doorbellBufferConfig && !shadowDoorbells) continue;
      view.setUint32(4 * opcode, 1, true);
    }
    for (const opcode of Object.values(NvmOpcode)) {
      if (opcode === NvmOpcode.datasetManagement && !trim) continue;
      const writes = opcode !== NvmOpcode.read && opcode !== NvmOpcode.flush;
      view.setUint32(1024 + 4 * opcode, writes ? 3 : 1, true);
    }
    return data;
  }
}
