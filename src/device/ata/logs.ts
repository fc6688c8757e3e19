/**
 * Logs of an ATA disk (ATA8-ACS annex A) and its SMART data (7.53.6). They count what has happened
 * since the computer started.
 *
 * Left out: the extended error log, self-tests (their log exists and is empty), thresholds that
 * could be exceeded.
 */
import { AtaCommandError } from './error.js';
import { AtaError, AtaLog, type ResultFile, type TaskFile } from '../../spec/ata.js';
import { checksum } from '../../spec/ata-identify.js';
import type { SenseCode } from '../../spec/scsi.js';
import { checkLike } from '../saved-state.js';

const page = 512;
/** A.19: number of entries of the summary error log, and bytes of each. */
const errorEntries = 5;
const errorEntrySize = 90;
/**
 * SMART attribute ids that vendors agree on: reported uncorrectable errors, LBAs written, LBAs
 * read.
 */
const Attribute = { errors: 187, written: 241, read: 242 } as const;

interface LoggedError {
  readonly file: TaskFile;
  readonly result: ResultFile;
}

interface QueuedError {
  readonly slot: number;
  readonly queued: boolean;
  readonly result: ResultFile;
  readonly sense: SenseCode;
}

const noResult: ResultFile = { status: 0, error: 0, lba: 0, count: 0, device: 0 };
/** Examples of what a snapshot may hold. */
const anError: LoggedError = { file: { command: 0, features: 0, lba: 0, count: 0, device: 0 }, result: noResult };
const aQueuedError: QueuedError = { slot: 0, queued: true, result: noResult, sense: [0, 0, 0] };

export class DiskLogs {
  use = { readBytes: 0, writtenBytes: 0 };
  #errorCount = 0;
  #errors: LoggedError[] = [];
  #queued: QueuedError | undefined;

  /** Adds an error to the summary error log. */
  addError(file: TaskFile, result: ResultFile): void {
    this.#errorCount++;
    this.#errors = [...this.#errors, { file: { ...file }, result }].slice(-errorEntries);
  }

  /**
   * Records the error that READ LOG EXT 10h reports. `queued` is false if an unqueued command
   * caused it while queued ones were in flight.
   */
  queuedError(slot: number, result: ResultFile, sense: SenseCode, queued: boolean): void {
    this.#queued = { slot, result, sense, queued };
  }

  /**
   * READ LOG EXT (7.31): pages of 512 bytes.
   * @throws AtaCommandError if the log or page does not exist
   */
  read(file: TaskFile): Uint8Array {
    const log = file.lba & 0xff;
    const first = (Math.floor(file.lba / 0x100000000) & 0xff) * 256 + ((file.lba >>> 8) & 0xff);
    if (first !== 0 || file.count !== 1) throw new AtaCommandError(AtaError.abort);
    switch (log) {
      case AtaLog.directory:
        return this.#directory([AtaLog.ncqError]);
      case AtaLog.ncqError:
        return this.#ncqError();
      default:
        throw new AtaCommandError(AtaError.abort);
    }
  }

  /**
   * SMART READ LOG (7.53.7).
   * @throws AtaCommandError if the log does not exist
   */
  smartLog(log: number, count: number): Uint8Array {
    if (count !== 1) throw new AtaCommandError(AtaError.abort);
    if (log === AtaLog.directory) return this.#directory([AtaLog.summaryError, AtaLog.selfTest]);
    if (log === AtaLog.summaryError) return this.#summaryErrors();
    if (log === AtaLog.selfTest) return selfTests();
    throw new AtaCommandError(AtaError.abort);
  }

  /** SMART READ DATA. */
  smartData(): Uint8Array {
    const data = new Uint8Array(page);
    const view = new DataView(data.buffer);
    view.setUint16(0, 0x0010, true); // revision of the attribute format
    const attributes: [number, number][] = [
      [Attribute.errors, this.#errorCount],
      [Attribute.written, Math.floor(this.use.writtenBytes / 512)],
      [Attribute.read, Math.floor(this.use.readBytes / 512)],
    ];
    attributes.forEach(([id, value], i) => {
      const at = 2 + i * 12;
      data[at] = id;
      view.setUint16(at + 1, 0x0032, true); // event count, online collection, preserved
      data[at + 3] = 100;
      data[at + 4] = 100;
      view.setUint32(at + 5, value % 0x100000000, true);
      view.setUint16(at + 9, Math.floor(value / 0x100000000) & 0xffff, true);
    });
    // SMART capability: data is saved before standby and automatically
    view.setUint16(368, 0x0003, true);
    data[370] = 1; // error logging
    data[511] = checksum(data);
    return data;
  }

  /** SMART READ THRESHOLDS (obsolete): thresholds of zero, which are never exceeded. */
  smartThresholds(): Uint8Array {
    const data = new Uint8Array(page);
    new DataView(data.buffer).setUint16(0, 0x0010, true);
    [Attribute.errors, Attribute.written, Attribute.read].forEach((id, i) => (data[2 + i * 12] = id));
    data[511] = checksum(data);
    return data;
  }

  save() {
    return { use: { ...this.use }, errorCount: this.#errorCount, errors: this.#errors, queued: this.#queued };
  }

  /** @throws StateFault if it cannot have been saved */
  restore(state: ReturnType<DiskLogs['save']>): void {
    for (const error of state.errors) checkLike(anError, error);
    if (state.queued !== undefined) checkLike(aQueuedError, state.queued);
    this.use = { ...state.use };
    this.#errorCount = state.errorCount;
    this.#errors = state.errors.slice(-errorEntries);
    this.#queued = state.queued;
  }

  /** A.2 Log directory: version 1, then the number of pages of each log. */
  #directory(logs: readonly number[]): Uint8Array {
    const data = new Uint8Array(page);
    data[0] = 1;
    for (const log of logs) data[log * 2] = 1;
    return data;
  }

  /** A.15 (SATA 3.0 §13.7.1) Queued error log. Reading it clears it. */
  #ncqError(): Uint8Array {
    const data = new Uint8Array(page);
    const error = this.#queued;
    this.#queued = undefined;
    data[0] = 0x80; // NQ: the error is not of a queued command
    if (error) {
      const { result, sense, slot, queued } = error;
      data[0] = queued ? slot : 0x80;
      registers(data, 2, result);
      data.set(sense, 14);
    }
    data[511] = checksum(data);
    return data;
  }

  /**
   * A.19 Summary error log: the index names the newest entry, 1 to 5. Each entry has the failed
   * command and its result.
   */
  #summaryErrors(): Uint8Array {
    const data = new Uint8Array(page);
    const view = new DataView(data.buffer);
    data[0] = 1;
    data[1] = this.#errors.length;
    this.#errors.forEach(({ file, result }, i) => {
      const at = 2 + i * errorEntrySize + 48; // the last of five command structures of 12 bytes
      data.set(
        [0, file.features, file.count, file.lba, file.lba >>> 8, file.lba >>> 16, file.device, file.command],
        at,
      );
      const end = at + 12;
      data.set([0, result.error, result.count, result.lba, result.lba >>> 8, result.lba >>> 16], end);
      data.set([result.device, result.status], end + 6);
    });
    view.setUint16(452, Math.min(this.#errorCount, 0xffff), true);
    data[511] = checksum(data);
    return data;
  }
}

/**
 * A.18 Self-test log, revision 1, empty. Hosts read it if error logging is supported, even if the
 * device reports no self-tests.
 */
function selfTests(): Uint8Array {
  const data = new Uint8Array(page);
  data[0] = 1;
  data[511] = checksum(data);
  return data;
}

/** Status, error, LBA, device and count in the order of a register FIS, as the log has them. */
function registers(data: Uint8Array, at: number, result: ResultFile): void {
  const high = Math.floor(result.lba / 0x1000000);
  data.set([result.status, result.error, result.lba, result.lba >>> 8, result.lba >>> 16, result.device], at);
  data.set([high, high >>> 8, high >>> 16, 0, result.count, result.count >>> 8], at + 6);
}
