/**
 * An NVMe controller (NVM Express 1.4) with one namespace, which is a BlockDevice: the logical
 * device of [SYS] as a guest's stock driver sees it.
 *
 * Registers, queues, resets and completions are here. The command sets are in admin.ts and nvm.ts.
 *
 * A guest may write any value to any register. The controller answers with the status that the
 * specification gives, or fails (CSTS.CFS) until the driver resets it.
 *
 * Not here: SGLs, controller memory buffer, boot partitions, weighted round robin arbitration, MSI
 * (the board has none).
 */
import { silent, ThrottledLogger, type Logger } from '../../base/log.js';
import { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import type { InterruptLine } from '../../machine/engine.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import type { GuardedDevice, Trap } from '../../machine/trap.js';
import { UnderWay } from '../under-way.js';
import { executeAdmin, type AdminTarget } from './admin.js';
import { CommandError, type Command } from './command.js';
import { Features } from './features.js';
import { AsyncEvents } from './events.js';
import { GiveUp, keyOf } from './give-up.js';
import type { NvmeIdentity } from '../../spec/nvme-identify.js';
import { Interrupt } from './interrupt.js';
import { Logs } from './logs.js';
import { executeNvm, lbaOf, namespaceFacts } from './nvm.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';
import { readRegister, writeRegister, type RegisterFile } from './registers.js';
import type { NvmeState } from './state.js';
import type { CommandTimes } from '../command-times.js';
import { PostedTimes } from './posted-times.js';
import { AsyncEvent, Cc, Csts, Register, Status, cqeSize, doNotRetry, sqeSize } from '../../spec/nvme.js';

/**
 * PCI vendor and device id. They are not assigned to any vendor, so no driver applies quirks to
 * them.
 */
export const vendorId = 0xfb05;
export const deviceId = 0x0001;
/** Largest number of entries in a queue. */
const maxQueueEntries = 1024;
/**
 * Largest number of commands in flight; further ones wait in their queues. Chosen, not measured.
 */
const maxInFlight = 256;

export interface NvmeOptions {
  readonly base: number;
  readonly memory: GuestMemory;
  /** The block device of the namespace: the virtual I/O client 260. */
  readonly disk: BlockDevice;
  readonly identity: NvmeIdentity;
  readonly steps?: Steps;
  /** Attributes a command to the trap that issued it, for `--trace` ([SYS] fig. 6). */
  readonly attribute?: (tag: number, trap: Trap) => void;
  readonly onCommand?: (times: CommandTimes) => void;
  readonly log?: Logger;
}

export class NvmeController implements GuardedDevice {
  readonly name = 'nvme';
  readonly size = 0x4000;
  readonly base: number;

  readonly #options: NvmeOptions;
  readonly #memory: GuestMemory;
  readonly #steps: Steps;
  readonly #log: ThrottledLogger;

  readonly #registers: RegisterFile = {
    intms: 0,
    cc: 0,
    csts: 0,
    aqa: 0,
    asqLow: 0,
    asqHigh: 0,
    acqLow: 0,
    acqHigh: 0,
  };
  readonly #features: Features;
  #logs = new Logs();
  readonly #sqs = new Map<number, SubmissionQueue>();
  readonly #cqs = new Map<number, CompletionQueue>();
  readonly #inFlight = new UnderWay();
  /** The shutdown that the driver asked for, while its flush is in flight. */
  readonly #shutdown = new UnderWay();
  readonly #giveUp = new GiveUp(this.#inFlight);
  readonly #times = new PostedTimes();
  readonly #events = new AsyncEvents((request, event) => {
    const queue = this.#sqs.get(0);
    if (queue) this.#complete(queue, request, Status.success, event);
  });
  readonly #interrupt = new Interrupt(() => ({
    masked: (this.#registers.intms & 1) !== 0,
    queues: this.#cqs.values(),
    underWay: this.#ioUnderWay,
    coalescing: this.#features.coalescing,
  }));
  #commands = 0;
  #ioUnderWay = 0;
  /** Number of resets: a command that began before a reset must not complete after it. */
  #life = 0;
  #draining: Promise<void> | undefined;
  #paused = false;
  /** Size of the namespace in bytes, as last reported to the driver. */
  #toldSize: number;

  constructor(options: NvmeOptions) {
    this.base = options.base;
    this.#options = options;
    this.#memory = options.memory;
    this.#steps = options.steps ?? new Steps();
    this.#log = new ThrottledLogger(options.log ?? silent);
    this.#features = new Features(options.disk.info.can.flush);
    this.#toldSize = options.disk.info.size;
  }

  /**
   * Number of interrupts (the line going from low to high), and of commands completed on I/O
   * queues.
   */
  get counts(): { readonly interrupts: number; readonly commands: number } {
    return { interrupts: this.#interrupt.raised, commands: this.#commands };
  }

  /** Connects the interrupt line that the board assigned. */
  connect(line: InterruptLine): void {
    this.#interrupt.connect(line);
  }

  issuesCommand(offset: number): boolean {
    // Submission queue tail doorbells (SQyTDBL) are the even dwords.
    return offset >= Register.doorbells && (offset - Register.doorbells) % 8 === 0;
  }

  read(offset: number, size: number): number {
    const dword = readRegister(this.#registers, offset & ~3);
    if (size === 4 && offset % 4 === 0) return dword;
    return (dword >>> (8 * (offset & 3))) & (size === 1 ? 0xff : 0xffff);
  }

  write(offset: number, size: number, value: number, trap?: Trap): void {
    // §3.1 leaves accesses other than aligned dwords undefined; they are ignored.
    if (size !== 4 || offset % 4 !== 0) return;
    value >>>= 0;
    if (offset >= Register.doorbells) return this.#doorbell((offset - Register.doorbells) / 4, value, trap);
    const before = this.#registers.cc;
    switch (writeRegister(this.#registers, offset, value)) {
      case 'cc':
        return this.#configure(before, this.#registers.cc);
      case 'mask':
        return this.#interrupt.update();
      case 'none':
        return;
    }
  }

  /** Stops fetching commands and waits until none is in flight, for a snapshot. */
  async pause(): Promise<void> {
    this.#paused = true;
    await this.#inFlight.drained();
    await this.#shutdown.drained();
    await this.#draining;
  }

  /** Resumes fetching after {@link pause}. */
  resume(): void {
    this.#paused = false;
    this.#fetchAll();
  }

  /**
   * Registers and queues, for a snapshot.
   * @throws Error if the controller is not paused
   */
  save(): NvmeState {
    if (!this.#paused || this.#inFlight.size > 0) throw new Error('the controller is not paused');
    return {
      registers: { ...this.#registers },
      features: this.#features.save(),
      submissionQueues: [...this.#sqs.values()].map((queue) => queue.save()),
      completionQueues: [...this.#cqs.values()].map((queue) => queue.save()),
      eventRequests: this.#events.save(),
    };
  }

  /** Restores a saved state and sets the interrupt line accordingly. Only before the guest runs. */
  restore(state: NvmeState): void {
    Object.assign(this.#registers, state.registers);
    this.#features.restore(state.features);
    for (const queue of state.submissionQueues) this.#sqs.set(queue.id, SubmissionQueue.restore(queue));
    for (const queue of state.completionQueues) this.#cqs.set(queue.id, CompletionQueue.restore(queue));
    this.#events.restore(state.eventRequests);
    this.#interrupt.update();
  }

  /** §3.1.5, a write to CC: enables, disables or shuts down the controller. */
  #configure(before: number, now: number): void {
    const enable = (now & Cc.enable) !== 0;
    if (enable && (before & Cc.enable) === 0) this.#enable();
    if (!enable && (before & Cc.enable) !== 0) this.#reset();
    const shutdown = (now >>> Cc.shnShift) & 3;
    if (shutdown !== 0 && shutdown !== ((before >>> Cc.shnShift) & 3)) this.#shutDown();
  }

  /** §7.3.1, §7.6.1: sets up the admin queues and then sets CSTS.RDY. */
  #enable(): void {
    // A reset is still draining: the driver did not wait for CSTS.RDY to become 0. The reset
    // enables the controller when it ends.
    if (this.#draining) return;
    const { cc, aqa, asqLow, asqHigh, acqLow, acqHigh } = this.#registers;
    const sqBase = asqHigh * 0x100000000 + asqLow;
    const cqBase = acqHigh * 0x100000000 + acqLow;
    const sqSize = (aqa & 0xfff) + 1;
    const cqSize = ((aqa >>> 16) & 0xfff) + 1;
    const supported = ((cc >>> Cc.mpsShift) & 0xf) === 0 && ((cc >>> Cc.cssShift) & 7) === 0;
    const placed = this.#memory.view(sqBase, sqSize * sqeSize) && this.#memory.view(cqBase, cqSize * cqeSize);
    if (!supported || ((cc >>> Cc.amsShift) & 7) !== 0 || sqSize < 2 || cqSize < 2 || !placed) {
      return this.#fail('the driver enabled it with an admin queue or configuration that it cannot have');
    }
    this.#sqs.set(0, new SubmissionQueue(0, sqBase, sqSize, 0));
    this.#cqs.set(0, new CompletionQueue(0, cqBase, cqSize, true));
    this.#registers.csts = Csts.ready;
  }

  /**
   * §7.3.2, controller reset. CSTS.RDY stays 1 until every command in flight has ended or is known
   * to have no later effect, because the driver then reuses its memory and rewrites the same
   * blocks.
   */
  #reset(): void {
    this.#life++;
    this.#inFlight.giveUp();
    this.#sqs.clear();
    this.#cqs.clear();
    this.#events.clear();
    this.#giveUp.reset();
    this.#features.reset();
    this.#registers.intms = 0;
    this.#interrupt.update();
    this.#shutdown.giveUp();
    // All resets that the driver asks for meanwhile share one wait: with one wait each, a guest
    // could use up the host's memory.
    this.#draining ??= Promise.all([this.#inFlight.drained(), this.#shutdown.drained()]).then(() => {
      this.#draining = undefined;
      this.#registers.csts = 0;
      if (this.#registers.cc & Cc.enable) this.#enable();
    });
  }

  /** §7.6.2: flushes the medium, then reports that the shutdown is complete. */
  #shutDown(): void {
    this.#registers.csts = (this.#registers.csts & ~(3 << 2)) | Csts.shutdownOccurring;
    // One flush at a time: further shutdown requests share the flush that is in flight.
    if (this.#shutdown.size > 0) return;
    const abort = new AbortController();
    const done = this.#flushForShutdown(abort.signal).finally(() => this.#shutdown.ended(0));
    this.#shutdown.add(0, { abort, done });
  }

  async #flushForShutdown(signal: AbortSignal): Promise<void> {
    const life = this.#life;
    await this.#inFlight.drained();
    if (this.#life !== life) return;
    await this.#options.disk.flush({ signal }).catch((error: unknown) => {
      if (signal.aborted) return;
      this.#log.log('warn', 'shutdown', `${this.name}: flush at shutdown failed: ${String(error)}`);
    });
    if (this.#life !== life) return;
    this.#registers.csts = (this.#registers.csts & ~(3 << 2)) | Csts.shutdownComplete;
  }

  /** §3.1.6, CSTS.CFS: the controller has failed and does nothing more until a reset. */
  #fail(reason: string): void {
    this.#registers.csts |= Csts.fatal;
    this.#log.log('warn', 'fatal', `${this.name}: controller failed: ${reason}`);
  }

  get #running(): boolean {
    const { cc, csts } = this.#registers;
    return (cc & Cc.enable) !== 0 && (csts & (Csts.ready | Csts.fatal)) === Csts.ready;
  }

  /**
   * Handles a doorbell write (§3.1.24, §3.1.25). Invalid values are reported as events (§5.2,
   * figure 146).
   */
  #doorbell(index: number, value: number, trap?: Trap): void {
    if (!this.#running) return;
    const id = index >> 1;
    if (index % 2 === 0) {
      const queue = this.#sqs.get(id);
      if (!queue) return this.#events.report(AsyncEvent.typeError, AsyncEvent.invalidDoorbellRegister, 0x01);
      if (value >= queue.size) return this.#events.report(AsyncEvent.typeError, AsyncEvent.invalidDoorbellValue, 0x01);
      queue.tail = value;
      return this.#fetch(queue, trap);
    }
    const queue = this.#cqs.get(id);
    if (!queue) return this.#events.report(AsyncEvent.typeError, AsyncEvent.invalidDoorbellRegister, 0x01);
    const consumed = queue.consume(this.#memory, value);
    if (consumed < 0) return this.#events.report(AsyncEvent.typeError, AsyncEvent.invalidDoorbellValue, 0x01);
    this.#times.consumed(queue, consumed, this.#report);
    this.#interrupt.update();
    // Commands may have waited in their submission queues for room in this completion queue.
    this.#fetchAll();
  }

  #fetchAll(): void {
    for (const queue of this.#sqs.values()) {
      if (this.#running) this.#fetch(queue);
    }
  }

  #fetch(queue: SubmissionQueue, trap?: Trap): void {
    const cq = this.#cqs.get(queue.cqid);
    if (!cq) return this.#fail('a submission queue has no completion queue');
    while (queue.waiting && !queue.deleted && !this.#paused && this.#inFlight.size < maxInFlight && cq.hasRoom) {
      const command = queue.fetch(this.#memory);
      if (!command) return this.#fail('a submission queue is not in guest memory');
      const key = keyOf(queue.id, command.cid);
      if (this.#inFlight.has(key)) {
        this.#complete(queue, command, Status.commandIdConflict | doNotRetry, 0);
        continue;
      }
      const abort = new AbortController();
      const work = queue.id === 0 ? this.#admin(queue, command) : this.#io(queue, command, abort.signal, trap);
      cq.expected++;
      const done = work.finally(() => {
        cq.expected--;
        this.#inFlight.ended(key);
        this.#fetchAll();
      });
      this.#inFlight.add(key, { abort, done });
    }
  }

  async #admin(queue: SubmissionQueue, command: Command): Promise<void> {
    const life = this.#life;
    // Leave the guest's instruction first: a completion may raise the interrupt, which is not
    // allowed within it.
    await Promise.resolve();
    try {
      const outcome = await executeAdmin(this.#adminTarget, command);
      if (outcome && this.#life === life) this.#complete(queue, command, outcome.status, outcome.result ?? 0);
    } catch (error) {
      const status = error instanceof CommandError ? error.status : Status.internalError;
      if (!(error instanceof CommandError)) this.#log.log('error', 'admin', `${this.name}: ${String(error)}`);
      if (this.#life === life) this.#complete(queue, command, status | doNotRetry, 0);
    }
  }

  async #io(queue: SubmissionQueue, command: Command, signal: AbortSignal, trap?: Trap): Promise<void> {
    const life = this.#life;
    const tag = this.#steps.newTag();
    if (trap) this.#options.attribute?.(tag, trap);
    const issued = performance.now();
    const context = { memory: this.#memory, disk: this.#options.disk, logs: this.#logs };
    this.#ioUnderWay++;
    const status = await executeNvm(context, command, { signal, tag });
    this.#ioUnderWay--;
    if (this.#life !== life) return;
    const answered = performance.now();
    this.#commands++;
    if (status !== Status.success) {
      this.#logs.addError({ sqid: queue.id, cid: command.cid, status, lba: lbaOf(command), nsid: command.nsid });
    }
    const own = queue.deleted && status === Status.abortRequested ? Status.abortedSqDeletion : status;
    const times = { tag, opcode: command.opcode, trapped: trap?.time ?? issued, issued, answered, consumed: 0 };
    this.#complete(queue, command, own, 0, times);
    this.#tellSize();
  }

  /**
   * §5.2, namespace attribute notice: tells the driver that the size changed, as a reconnection may
   * find.
   */
  #tellSize(): void {
    const { size } = this.#options.disk.info;
    if (size === this.#toldSize) return;
    this.#toldSize = size;
    if (!this.#features.noticeEnabled(8)) return;
    this.#logs.namespaceChanged = true;
    this.#events.report(AsyncEvent.typeNotice, AsyncEvent.namespaceAttributeChanged, 0x04);
  }

  #complete(
    queue: SubmissionQueue,
    command: Pick<Command, 'cid'>,
    status: number,
    result: number,
    times?: CommandTimes,
  ): void {
    const cq = this.#cqs.get(queue.cqid);
    if (!cq || !this.#running) return;
    const completion = { sqid: queue.id, sqHead: queue.head, cid: command.cid, status, result };
    if (!cq.post(this.#memory, completion)) return this.#fail('a completion queue is not in guest memory');
    this.#times.posted(cq, times);
    this.#interrupt.update();
  }

  readonly #report = (times: CommandTimes): void => {
    this.#steps.step(times.tag, 'end', 'the driver has taken the completion', times.consumed);
    this.#options.onCommand?.(times);
  };

  get #adminTarget(): AdminTarget {
    return {
      memory: this.#memory,
      features: this.#features,
      logs: this.#logs,
      identity: this.#options.identity,
      vendor: vendorId,
      cc: this.#registers.cc,
      maxQueueEntries,
      submissionQueues: this.#sqs,
      completionQueues: this.#cqs,
      namespace: () => {
        this.#toldSize = this.#options.disk.info.size;
        return namespaceFacts(this.#options.disk);
      },
      dropQueue: (queue) => this.#giveUp.queue(queue),
      abort: (sqid, cid) => this.#abort(sqid, cid),
      awaitEvent: (command) => this.#events.request(command),
    };
  }

  /**
   * §5.1 Abort. An Asynchronous Event Request is aborted immediately, another command if it can be
   * given up.
   */
  async #abort(sqid: number, cid: number): Promise<boolean> {
    if (sqid !== 0) return this.#giveUp.command(sqid, cid);
    this.#giveUp.checkLimit();
    const request = this.#events.take(cid);
    if (request) this.#complete(this.#sqs.get(0)!, request, Status.abortRequested, 0);
    return request !== undefined;
  }
}
