/**
 * The admin command set (NVMe 1.4 §5): queues, identify, features, log pages, abort, asynchronous
 * events.
 *
 * Not here: firmware update, namespace management, format, security send and receive.
 */
import { CommandError, type NvmeCommand, type AdminResult } from './command.js';
import { ioQueueLimit } from './features.js';
import {
  activeNamespaces,
  identifyController,
  identifyNamespace,
  namespaceDescriptors,
  type NamespaceFacts,
  type NvmeIdentity,
} from '../../spec/nvme-identify.js';
import type { Features } from './features.js';
import type { Logs } from './logs.js';
import { prpBuffers } from './prp.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';
import type { ShadowState } from './shadow-doorbells.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import { AdminOpcode, Cc, Cns, LogPage, Status, cqeSize, sqeSize } from '../../spec/nvme.js';

/** The parts of the controller that admin commands use. */
export interface AdminTarget {
  readonly memory: GuestMemory;
  readonly features: Features;
  readonly logs: Logs;
  readonly identity: NvmeIdentity;
  readonly vendor: number;
  /** CC register. */
  readonly cc: number;
  /** Largest number of entries in a queue (CAP.MQES + 1). */
  readonly maxQueueEntries: number;
  /** Number of interrupt vectors that the driver may use: 1 for the interrupt pin. */
  readonly vectors: number;
  readonly submissionQueues: Map<number, SubmissionQueue>;
  readonly completionQueues: Map<number, CompletionQueue>;
  namespace(): NamespaceFacts;
  /**
   * Puts the doorbells into guest memory. Returns false if the buffers are not there. Undefined if
   * the controller does not offer shadow doorbells.
   */
  readonly shadowDoorbells?: (state: ShadowState) => boolean;
  /** Gives up the commands of a queue that is being deleted, and resolves when they have ended. */
  dropQueue(queue: SubmissionQueue): Promise<void>;
  /** Tries to abort a command. Resolves with true if the command was aborted. */
  abort(sqid: number, cid: number): Promise<boolean>;
  /**
   * Keeps an Asynchronous Event Request until there is an event. Throws a CommandError if too many
   * wait.
   */
  awaitEvent(command: NvmeCommand): void;
}

/**
 * Executes one admin command. Resolves with undefined if the command completes later (Asynchronous
 * Event Request).
 */
export async function executeAdmin(target: AdminTarget, command: NvmeCommand): Promise<AdminResult | undefined> {
  if (command.fuse !== 0) throw new CommandError(Status.invalidField);
  switch (command.opcode) {
    case AdminOpcode.identify:
      return identify(target, command);
    case AdminOpcode.getLogPage:
      return getLogPage(target, command);
    case AdminOpcode.createCq:
      return createCompletionQueue(target, command);
    case AdminOpcode.createSq:
      return createSubmissionQueue(target, command);
    case AdminOpcode.deleteCq:
      return deleteCompletionQueue(target, command);
    case AdminOpcode.deleteSq:
      return deleteSubmissionQueue(target, command);
    case AdminOpcode.getFeatures: {
      const select = (command.dword10 >>> 8) & 7;
      return ok(target.features.get(command.dword10 & 0xff, select));
    }
    case AdminOpcode.setFeatures:
      return ok(target.features.set(command.dword10 & 0xff, command.dword10 >>> 31 === 1, command.dword11));
    case AdminOpcode.abort: {
      // §5.1: bit 0 of dword 0 is 1 if the command was not aborted.
      const aborted = await target.abort(command.dword10 & 0xffff, command.dword10 >>> 16);
      return ok(aborted ? 0 : 1);
    }
    case AdminOpcode.asyncEventRequest:
      target.awaitEvent(command);
      return undefined;
    case AdminOpcode.doorbellBufferConfig:
      return configureDoorbells(target, command);
    default:
      throw new CommandError(Status.invalidOpcode);
  }
}

function ok(result = 0): AdminResult {
  return { status: Status.success, result };
}

/** §5.15 Identify. */
function identify(target: AdminTarget, command: NvmeCommand): AdminResult {
  const facts = target.namespace();
  const data = ((): Uint8Array => {
    switch (command.dword10 & 0xff) {
      case Cns.controller:
        return identifyController(target.identity, facts, target.vendor, target.shadowDoorbells !== undefined);
      case Cns.namespace:
        // §5.15.2.1: FFFFFFFFh asks for the properties common to all namespaces. There is only one
        // namespace, so its own data is the answer.
        if (command.nsid !== 1 && command.nsid !== 0xffffffff) throw new CommandError(Status.invalidNamespace);
        return identifyNamespace(target.identity, facts);
      case Cns.activeNamespaces:
        if (command.nsid >= 0xfffffffe) throw new CommandError(Status.invalidNamespace);
        return activeNamespaces(command.nsid);
      case Cns.namespaceDescriptors:
        if (command.nsid !== 1) throw new CommandError(Status.invalidNamespace);
        return namespaceDescriptors(target.identity);
      default:
        throw new CommandError(Status.invalidField);
    }
  })();
  prpBuffers(target.memory, command, data.length).copyFrom(data, 0);
  return ok();
}

/**
 * §5.14 Get Log Page. Offsets and lengths are in bytes. Bytes after the end of a log read as
 * zeroes.
 */
function getLogPage(target: AdminTarget, command: NvmeCommand): AdminResult {
  const dwords = (command.dword11 & 0xffff) * 0x10000 + (command.dword10 >>> 16) + 1;
  const offset = command.dword13 > 0x1fffff ? NaN : command.dword13 * 0x100000000 + command.dword12;
  const log = ((): Uint8Array => {
    switch (command.dword10 & 0xff) {
      case LogPage.error:
        return target.logs.errorLog();
      case LogPage.smart:
        return target.logs.healthLog();
      case LogPage.firmwareSlot:
        return target.logs.firmwareLog(target.identity.firmware);
      case LogPage.changedNamespaces:
        return target.logs.changedNamespaces();
      case LogPage.commandsSupported:
        return target.logs.commandsSupported(target.namespace().trim, target.shadowDoorbells !== undefined);
      default:
        throw new CommandError(Status.invalidLogPage);
    }
  })();
  if (!(offset % 4 === 0 && offset <= log.length) || dwords * 4 > 1 << 20) throw new CommandError(Status.invalidField);
  const data = new Uint8Array(dwords * 4);
  data.set(log.subarray(offset, offset + data.length));
  prpBuffers(target.memory, command, data.length).copyFrom(data, 0);
  return ok();
}

/** Checks the queue identifier and size in dword 10 of a create command (§5.3, §5.4). */
function newQueue(target: AdminTarget, command: NvmeCommand, existing: ReadonlyMap<number, unknown>) {
  const id = command.dword10 & 0xffff;
  const size = (command.dword10 >>> 16) + 1;
  if (id === 0 || id > ioQueueLimit || existing.has(id)) throw new CommandError(Status.invalidQueueIdentifier);
  if (size < 2 || size > target.maxQueueEntries) throw new CommandError(Status.invalidQueueSize);
  // PC, because CAP.CQR requires contiguous queues
  if ((command.dword11 & 1) === 0) throw new CommandError(Status.invalidField);
  if (command.prp1 % 4096 !== 0) throw new CommandError(Status.invalidPrpOffset);
  return { id, size, base: command.prp1 };
}

/** §5.3 Create I/O Completion Queue. */
function createCompletionQueue(target: AdminTarget, command: NvmeCommand): AdminResult {
  const { id, size, base } = newQueue(target, command, target.completionQueues);
  const vector = command.dword11 >>> 16;
  if (vector >= target.vectors) throw new CommandError(Status.invalidInterruptVector);
  if (((target.cc >>> Cc.iocqesShift) & 0xf) !== 4) throw new CommandError(Status.invalidQueueSize);
  if (!target.memory.view(base, size * cqeSize)) throw new CommandError(Status.dataTransferError);
  target.completionQueues.set(id, new CompletionQueue(id, base, size, (command.dword11 & 2) !== 0, vector));
  return ok();
}

/** §5.4 Create I/O Submission Queue. */
function createSubmissionQueue(target: AdminTarget, command: NvmeCommand): AdminResult {
  const { id, size, base } = newQueue(target, command, target.submissionQueues);
  const cqid = command.dword11 >>> 16;
  if (cqid === 0 || !target.completionQueues.has(cqid)) throw new CommandError(Status.completionQueueInvalid);
  if (((target.cc >>> Cc.iosqesShift) & 0xf) !== 6) throw new CommandError(Status.invalidQueueSize);
  if (!target.memory.view(base, size * sqeSize)) throw new CommandError(Status.dataTransferError);
  target.submissionQueues.set(id, new SubmissionQueue(id, base, size, cqid));
  return ok();
}

/** §5.5 Delete I/O Completion Queue: refused while a submission queue uses it. */
function deleteCompletionQueue(target: AdminTarget, command: NvmeCommand): AdminResult {
  const id = command.dword10 & 0xffff;
  if (id === 0 || !target.completionQueues.has(id)) throw new CommandError(Status.invalidQueueIdentifier);
  for (const queue of target.submissionQueues.values()) {
    if (queue.cqid === id) throw new CommandError(Status.invalidQueueDeletion);
  }
  target.completionQueues.delete(id);
  return ok();
}

/**
 * §5.6 Delete I/O Submission Queue: completes when every command of the queue has ended or was
 * given up.
 */
async function deleteSubmissionQueue(target: AdminTarget, command: NvmeCommand): Promise<AdminResult> {
  const id = command.dword10 & 0xffff;
  const queue = target.submissionQueues.get(id);
  if (id === 0 || !queue || queue.deleted) throw new CommandError(Status.invalidQueueIdentifier);
  await target.dropQueue(queue);
  target.submissionQueues.delete(id);
  return ok();
}

/** §5.7 Doorbell Buffer Config: PRP1 is the buffer of doorbells, PRP2 that of EventIdx values. */
function configureDoorbells(target: AdminTarget, { psdt, prp1, prp2 }: NvmeCommand): AdminResult {
  if (!target.shadowDoorbells) throw new CommandError(Status.invalidOpcode);
  if (psdt !== 0) throw new CommandError(Status.invalidField);
  if (prp1 % 4096 !== 0 || prp2 % 4096 !== 0) throw new CommandError(Status.invalidPrpOffset);
  if (!target.shadowDoorbells({ doorbells: prp1, events: prp2 })) throw new CommandError(Status.dataTransferError);
  return ok();
}
