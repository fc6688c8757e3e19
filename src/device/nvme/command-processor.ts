/**
 * The queues of an NVMe controller and the commands in flight (NVMe 1.4 §4.1, §7.2): fetches
 * commands when a doorbell is written, has them executed, and posts their completions.
 *
 * Not here: registers and resets (controller.ts), the command sets (admin.ts, nvm.ts).
 */
import type { ThrottledLogger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { PciConnection } from '../../machine/engine.js';
import type { Trap } from '../../machine/trap.js';
import { AsyncEvent, Status, doNotRetry } from '../../spec/nvme.js';
import type { CommandTimes } from '../command-times.js';
import { InFlight } from '../in-flight.js';
import { executeAdmin, type AdminTarget } from './admin.js';
import { CommandError, type NvmeCommand } from './command.js';
import { Doorbells } from './doorbells.js';
import { AsyncEvents } from './events.js';
import { Features } from './features.js';
import { GiveUp, keyOf } from './give-up.js';
import { Interrupt, interruptVectors } from './interrupt.js';
import { Logs } from './logs.js';
import { executeNvm, executeNvmDirect, lbaOf, namespaceFacts, type NvmContext } from './nvm.js';
import type { NvmeOptions } from './options.js';
import { PostedTimes } from './posted-times.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';
import type { RegisterFile } from './registers.js';
import type { NvmeState } from './state.js';

/** Largest number of entries in a queue. */
const maxQueueEntries = 1024;
/**
 * Largest number of commands in flight; further ones wait in their queues. Chosen, not measured.
 */
const maxInFlight = 256;
/**
 * Largest number of commands that are executed synchronously within one doorbell write, so that a
 * driver with full queues does not keep the event loop. Chosen, not measured.
 */
const maxDirect = 32;

export interface ProcessorOptions extends Omit<NvmeOptions, 'log'> {
  /** Name of the controller, for messages. */
  readonly name: string;
  readonly vendor: number;
  readonly steps: Steps;
  readonly log: ThrottledLogger;
}

/** The parts of the controller that the processor uses. */
export interface ProcessorHost {
  /** True while the controller is enabled, ready and has not failed. */
  running(): boolean;
  readonly registers: Readonly<RegisterFile>;
  fail(reason: string): void;
}

export class CommandProcessor {
  readonly #options: ProcessorOptions;
  readonly #host: ProcessorHost;
  readonly #features: Features;
  #logs = new Logs();
  readonly #sqs = new Map<number, SubmissionQueue>();
  readonly #cqs = new Map<number, CompletionQueue>();
  readonly #inFlight = new InFlight();
  readonly #giveUp = new GiveUp(this.#inFlight);
  readonly #times = new PostedTimes();
  readonly #events = new AsyncEvents((request, event) => {
    const queue = this.#sqs.get(0);
    if (queue) this.#complete(queue, request, Status.success, event);
  });
  readonly interrupt = new Interrupt(() => ({
    masked: (this.#host.registers.intms & 1) !== 0,
    queues: this.#cqs.values(),
    inFlight: this.#ioInFlight,
    coalescing: this.#features.coalescing,
  }));
  readonly #doorbells: Doorbells;
  #completed = 0;
  #ioInFlight = 0;
  /** Number of resets: a command that began before a reset must not complete after it. */
  #resets = 0;
  #paused = false;
  /** Size of the namespace in bytes, as last reported to the driver. */
  #toldSize: number;

  constructor(options: ProcessorOptions, host: ProcessorHost) {
    this.#options = options;
    this.#host = host;
    this.#features = new Features(options.disk.info.can.flush);
    this.#toldSize = options.disk.info.size;
    // A controller that is off or paused tells after its next command.
    options.disk.watchSize?.(() => {
      if (host.running() && !this.#paused) this.#tellSize();
    });
    this.#doorbells = new Doorbells({
      memory: options.memory,
      submissionQueues: this.#sqs,
      completionQueues: this.#cqs,
      running: () => this.#host.running(),
      byMessage: () => this.interrupt.byMessage,
      fetch: (queue, trap) => this.#fetch(queue, trap),
      fetchAll: (trap) => this.#fetchAll(trap),
      consumed: (queue, count) => {
        this.#times.consumed(queue, count, this.#report);
        this.interrupt.update();
      },
      invalid: (information) => this.#events.report(AsyncEvent.typeError, information, 0x01),
    });
  }

  /** Connects the controller's interrupts and its registers to the board. */
  connect(connection: PciConnection): void {
    this.interrupt.connect(connection);
    this.#doorbells.connect(connection.writeEvents);
  }

  /** Number of interrupts, and of commands completed on I/O queues. */
  get counts(): { readonly interrupts: number; readonly commands: number } {
    return { interrupts: this.interrupt.raised, commands: this.#completed };
  }

  /** True if no command is in flight. */
  get idle(): boolean {
    return this.#inFlight.size === 0;
  }

  /** Resolves when no command is in flight. */
  drained(): Promise<void> {
    return this.#inFlight.drained();
  }

  /** Fetches no more commands. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#fetchAll();
    this.#doorbells.look();
  }

  /** Queues, features and waiting event requests, for a snapshot. */
  save(): Omit<NvmeState, 'registers'> {
    return {
      features: this.#features.save(),
      submissionQueues: [...this.#sqs.values()].map((queue) => queue.save()),
      completionQueues: [...this.#cqs.values()].map((queue) => queue.save()),
      eventRequests: this.#events.save(),
      shadowDoorbells: this.#doorbells.save(),
    };
  }

  restore(state: Omit<NvmeState, 'registers'>): void {
    this.#features.restore(state.features);
    for (const queue of state.submissionQueues) this.#sqs.set(queue.id, SubmissionQueue.restore(queue));
    for (const queue of state.completionQueues) this.#cqs.set(queue.id, CompletionQueue.restore(queue));
    this.#events.restore(state.eventRequests);
    if (state.shadowDoorbells) this.#doorbells.shadow(state.shadowDoorbells);
    this.interrupt.update();
  }

  createAdminQueues(sq: SubmissionQueue, cq: CompletionQueue): void {
    this.#sqs.set(0, sq);
    this.#cqs.set(0, cq);
  }

  /** §7.3.2: gives up the commands in flight, and drops the queues. */
  reset(): void {
    this.#resets++;
    this.#inFlight.giveUp();
    this.#sqs.clear();
    this.#cqs.clear();
    this.#events.clear();
    this.#doorbells.reset();
    this.#giveUp.reset();
    this.#features.reset();
    this.interrupt.update();
  }

  /** Handles a doorbell write (§3.1.24, §3.1.25). */
  doorbell(index: number, value: number, trap?: Trap): void {
    if (this.#host.running()) this.#doorbells.write(index, value, trap);
  }

  #fetchAll(trap?: Trap): void {
    for (const queue of this.#sqs.values()) {
      if (this.#host.running()) this.#fetch(queue, trap);
    }
  }

  #fetch(queue: SubmissionQueue, trap?: Trap): void {
    const cq = this.#cqs.get(queue.cqid);
    if (!cq) return this.#host.fail('a submission queue has no completion queue');
    let direct = this.#options.disk.direct && queue.id !== 0 ? maxDirect : 0;
    const may = () => queue.waiting && !queue.deleted && !this.#paused && this.#inFlight.size < maxInFlight;
    while (may() && this.#doorbells.hasRoom(cq)) {
      const command = queue.fetch(this.#options.memory);
      if (!command) return this.#host.fail('a submission queue is not in guest memory');
      const key = keyOf(queue.id, command.cid);
      if (this.#inFlight.has(key)) {
        this.#complete(queue, command, Status.commandIdConflict | doNotRetry, 0);
        continue;
      }
      if (direct > 0 && this.#ioDirect(queue, command, trap)) {
        direct--;
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

  async #admin(queue: SubmissionQueue, command: NvmeCommand): Promise<void> {
    const resets = this.#resets;
    // Let `#fetch` first add the command to those in flight and reserve its place in the completion
    // queue. Some commands act at once: an event request is completed if an event is waiting.
    await Promise.resolve();
    if (this.#resets !== resets) return;
    try {
      const outcome = await executeAdmin(this.#adminTarget, command);
      this.#doorbells.follow();
      if (outcome && this.#resets === resets) this.#complete(queue, command, outcome.status, outcome.result ?? 0);
    } catch (error) {
      const status = error instanceof CommandError ? error.status : Status.internalError;
      if (!(error instanceof CommandError))
        this.#options.log.log('error', 'admin', `${this.#options.name}: ${String(error)}`);
      if (this.#resets === resets) this.#complete(queue, command, status | doNotRetry, 0);
    }
  }

  /**
   * Executes a command within the driver's doorbell write, if the disk can do it without waiting.
   * @returns false if it must be executed asynchronously
   */
  #ioDirect(queue: SubmissionQueue, command: NvmeCommand, trap?: Trap): boolean {
    // Only asynchronous commands report trace steps.
    if (this.#options.steps.on) return false;
    const issued = performance.now();
    if (!executeNvmDirect(this.#context, command)) return false;
    this.#ended(queue, command, Status.success, this.#options.steps.newTraceId(), issued, trap);
    return true;
  }

  async #io(queue: SubmissionQueue, command: NvmeCommand, signal: AbortSignal, trap?: Trap): Promise<void> {
    const resets = this.#resets;
    const traceId = this.#options.steps.newTraceId();
    if (trap) this.#options.attribute?.(traceId, trap);
    const issued = performance.now();
    this.#ioInFlight++;
    const status = await executeNvm(this.#context, command, { signal, traceId });
    this.#ioInFlight--;
    if (this.#resets !== resets) return;
    this.#ended(queue, command, status, traceId, issued, trap);
  }

  get #context(): NvmContext {
    return { memory: this.#options.memory, disk: this.#options.disk, logs: this.#logs };
  }

  #ended(
    queue: SubmissionQueue,
    command: NvmeCommand,
    status: number,
    traceId: number,
    issued: number,
    trap: Trap | undefined,
  ): void {
    const answered = performance.now();
    this.#completed++;
    if (status !== Status.success) {
      this.#logs.addError({ sqid: queue.id, cid: command.cid, status, lba: lbaOf(command), nsid: command.nsid });
    }
    const own = queue.deleted && status === Status.abortRequested ? Status.abortedSqDeletion : status;
    const times = { traceId, opcode: command.opcode, trapped: trap?.time ?? issued, issued, answered, consumed: 0 };
    this.#complete(queue, command, own, 0, times);
    this.#tellSize();
  }

  /**
   * §5.2, namespace attribute notice: tells the driver that the size changed, as the disk may
   * report or a reconnection may find.
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
    command: Pick<NvmeCommand, 'cid'>,
    status: number,
    result: number,
    times?: CommandTimes,
  ): void {
    const cq = this.#cqs.get(queue.cqid);
    if (!cq || !this.#host.running()) return;
    this.#doorbells.refresh(cq);
    const completion = { sqid: queue.id, sqHead: queue.head, cid: command.cid, status, result };
    if (!cq.post(this.#options.memory, completion)) return this.#host.fail('a completion queue is not in guest memory');
    this.#times.posted(cq, times);
    this.interrupt.update();
  }

  readonly #report = (times: CommandTimes): void => {
    this.#options.steps.step(times.traceId, 'end', 'the driver has taken the completion', times.consumed);
    this.#options.onCommand?.(times);
  };

  get #adminTarget(): AdminTarget {
    return {
      memory: this.#options.memory,
      features: this.#features,
      logs: this.#logs,
      identity: this.#options.identity,
      vendor: this.#options.vendor,
      cc: this.#host.registers.cc,
      maxQueueEntries,
      vectors: this.interrupt.byMessage ? interruptVectors : 1,
      submissionQueues: this.#sqs,
      completionQueues: this.#cqs,
      namespace: () => {
        this.#toldSize = this.#options.disk.info.size;
        return namespaceFacts(this.#options.disk);
      },
      // Under `--trace` each command is to trap, so that its steps are reported.
      ...(this.#doorbells.canShadow &&
        !this.#options.steps.on && { shadowDoorbells: (state) => this.#doorbells.shadow(state) }),
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
