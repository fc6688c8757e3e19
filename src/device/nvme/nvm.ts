/**
 * The NVM command set (NVMe 1.4 §6): read, write, flush, write zeroes and dataset management,
 * passed to a BlockDevice.
 *
 * Not here: compare, write uncorrectable, verify, reservations.
 */
import type { BlockDevice, RequestOptions } from '../../block/device.js';
import { blockErrorOf, type BlockErrorKind } from '../../block/errors.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import { CommandError, uint64, type NvmeCommand } from './command.js';
import { mdts, type NamespaceFacts } from '../../spec/nvme-identify.js';
import type { Logs } from './logs.js';
import { prpBuffers } from './prp.js';
import { NvmOpcode, Status, deallocateBit, doNotRetry, fuaBit } from '../../spec/nvme.js';

/** The objects that executing a command needs. */
export interface NvmContext {
  readonly memory: GuestMemory;
  readonly disk: BlockDevice;
  readonly logs: Logs;
}

const maxTransfer = 4096 << mdts;
/**
 * §6.7 Dataset Management: a range has 16 bytes. NR is 0-based, so there are at most 256 ranges.
 */
const rangeSize = 16;

/**
 * Executes one command of an I/O queue. Never rejects.
 * @returns the status of the command
 */
export async function executeNvm(context: NvmContext, command: NvmeCommand, options: RequestOptions): Promise<number> {
  try {
    await dispatch(context, command, options);
    return Status.success;
  } catch (error) {
    if (error instanceof CommandError) return error.status | doNotRetry;
    return statusOf(blockErrorOf(error).kind, command.opcode);
  }
}

/**
 * Transfers the data of a read or a write that the disk can do without waiting.
 * @returns false for every other command, and for errors: {@link executeNvm} executes it then
 */
export function executeNvmDirect(context: NvmContext, command: NvmeCommand): boolean {
  const { direct } = context.disk;
  const reads = command.opcode === NvmOpcode.read;
  // A write that must be durable when completed cannot be synchronous.
  const writes = command.opcode === NvmOpcode.write && (command.dword12 & fuaBit) === 0;
  if (!direct || !(reads || writes) || command.fuse !== 0 || command.nsid !== 1) return false;
  try {
    const { offset, length } = range(context, command);
    const data = transfer(context, command, length);
    const done = reads
      ? data.fillNow((view, at) => direct.read(offset + at, view))
      : data.takeNow((view, at) => direct.write(offset + at, view));
    if (done) count(context, reads, length);
    return done;
  } catch {
    return false;
  }
}

/** The first LBA of a command, for the error log; 0 for commands that have none. */
export function lbaOf(command: NvmeCommand): number {
  return command.opcode === NvmOpcode.flush ? 0 : lba(command) || 0;
}

function dispatch(context: NvmContext, command: NvmeCommand, options: RequestOptions): Promise<void> {
  if (command.fuse !== 0) throw new CommandError(Status.invalidField);
  // §6.1: a flush may address all namespaces at once.
  const all = command.nsid === 0xffffffff && command.opcode === NvmOpcode.flush;
  if (command.nsid !== 1 && !all) throw new CommandError(Status.invalidNamespace);
  switch (command.opcode) {
    case NvmOpcode.read:
      return read(context, command, options);
    case NvmOpcode.write:
      return write(context, command, options);
    case NvmOpcode.flush:
      return context.disk.flush(options);
    case NvmOpcode.writeZeroes:
      return writeZeroes(context, command, options);
    case NvmOpcode.datasetManagement:
      return datasetManagement(context, command, options);
    default:
      throw new CommandError(Status.invalidOpcode);
  }
}

/** §6.9 Read. */
async function read(context: NvmContext, command: NvmeCommand, options: RequestOptions): Promise<void> {
  const { offset, length } = range(context, command);
  const into = transfer(context, command, length);
  await context.disk.read(offset, into, options);
  count(context, true, length);
}

/** §6.15 Write. */
async function write(context: NvmContext, command: NvmeCommand, options: RequestOptions): Promise<void> {
  const { offset, length } = range(context, command);
  const from = transfer(context, command, length);
  await context.disk.write(offset, from, { ...options, fua: (command.dword12 & fuaBit) !== 0 });
  count(context, false, length);
}

/** Counts a transfer for the SMART log. */
function count({ logs: { usage } }: NvmContext, reads: boolean, length: number): void {
  if (reads) {
    usage.readBytes += length;
    usage.readCommands++;
  } else {
    usage.writtenBytes += length;
    usage.writeCommands++;
  }
}

/** §6.17 Write Zeroes. The blocks may become unallocated only if DEAC is set. */
async function writeZeroes(context: NvmContext, command: NvmeCommand, options: RequestOptions): Promise<void> {
  const { offset, length } = range(context, command);
  const fua = (command.dword12 & fuaBit) !== 0;
  const noHole = (command.dword12 & deallocateBit) === 0;
  await context.disk.writeZeroes(offset, length, { ...options, fua, noHole });
}

/**
 * §6.7 Dataset Management. Only the attribute Deallocate has an effect: §6.7 lets a controller
 * ignore the others, which are hints.
 */
async function datasetManagement(context: NvmContext, command: NvmeCommand, options: RequestOptions): Promise<void> {
  if (!context.disk.info.can.trim) throw new CommandError(Status.invalidOpcode);
  const count = (command.dword10 & 0xff) + 1;
  const table = new Uint8Array(count * rangeSize);
  prpBuffers(context.memory, command, table.length).copyTo(table, 0);
  if ((command.dword11 & (1 << 2)) === 0) return;
  if (context.disk.info.readOnly) throw new CommandError(Status.writeToReadOnly);
  const view = new DataView(table.buffer);
  const ranges = [];
  for (let i = 0; i < count; i++) {
    const blocks = view.getUint32(i * rangeSize + 4, true);
    ranges.push(checkedRange(context, uint64(view, i * rangeSize + 8), blocks));
  }
  for (const { offset, length } of ranges) {
    if (length > 0) await context.disk.trim(offset, length, options);
  }
}

function lba(command: NvmeCommand): number {
  return command.dword11 > 0x1fffff ? NaN : command.dword11 * 0x100000000 + command.dword10;
}

/** The byte range of SLBA and NLB (0-based, bits 15:0 of dword 12). */
function range(context: NvmContext, command: NvmeCommand): { offset: number; length: number } {
  return checkedRange(context, lba(command), (command.dword12 & 0xffff) + 1);
}

function checkedRange(context: NvmContext, first: number, blocks: number): { offset: number; length: number } {
  const { size } = context.disk.info;
  const blockSize = lbaSize(context.disk);
  if (!(first + blocks <= Math.floor(size / blockSize))) throw new CommandError(Status.lbaOutOfRange);
  return { offset: first * blockSize, length: blocks * blockSize };
}

function transfer(context: NvmContext, command: NvmeCommand, length: number) {
  if (length > maxTransfer) throw new CommandError(Status.invalidField); // §5.15.2.2, MDTS
  return prpBuffers(context.memory, command, length);
}

/**
 * Bytes of a logical block: 512 if the device's own blocks are smaller, else the device's block
 * size.
 */
function lbaSize(disk: BlockDevice): number {
  return disk.info.blockSize <= 512 ? 512 : disk.info.blockSize;
}

/** The facts about the namespace that identify structures report. */
export function namespaceFacts(disk: BlockDevice): NamespaceFacts {
  const blockSize = lbaSize(disk);
  return {
    blocks: Math.floor(disk.info.size / blockSize),
    blockSize,
    readOnly: disk.info.readOnly,
    trim: disk.info.can.trim,
    volatileWriteCache: disk.info.can.flush,
  };
}

/**
 * §4.6.1.2: the status for a block error. "Do not retry" is set for all kinds but `aborted`,
 * because an immediate retry of the others cannot succeed.
 */
function statusOf(kind: BlockErrorKind, opcode: number): number {
  switch (kind) {
    case 'no-space':
      return Status.capacityExceeded | doNotRetry;
    case 'read-only':
      return Status.writeToReadOnly | doNotRetry;
    case 'range':
      return Status.lbaOutOfRange | doNotRetry;
    case 'unsupported':
      return Status.invalidOpcode | doNotRetry;
    case 'no-medium':
      return Status.namespaceNotReady | doNotRetry;
    case 'aborted':
      return Status.abortRequested;
    case 'io':
      return (opcode === NvmOpcode.read ? Status.unrecoveredReadError : Status.writeFault) | doNotRetry;
    case 'unreachable':
    case 'closed':
      return Status.internalError | doNotRetry;
  }
}
