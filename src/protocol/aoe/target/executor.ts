/**
 * Executes ATA commands of the target, at most {@link maxExecuting} at a time, and does not
 * execute a recognised copy.
 *
 * A read or write that the device can do synchronously is done at once: a read goes directly into
 * the response frame, a write comes directly from the received frame. The other commands are
 * copied into frames of the target and executed together with those that arrive at the same time.
 */
import { buffersOf } from '../../../base/buffers.js';
import { JoinedBuffers } from '../../../base/joined-buffers.js';
import type { LossWatch } from '../../../block/losses.js';
import type { Steps } from '../../../base/steps.js';
import type { Port } from '../../../network/ethernet/segment.js';
import { unknownSession } from '../session.js';
import { AtaArgument } from '../spec.js';
import { tagOf } from '../wire.js';
import {
  changesSomething,
  continues,
  dataOf,
  kindOf,
  pack,
  unpack,
  type TargetCommand,
  type Order,
  type Sender,
} from './command.js';
import { good, type Disk, type Result } from './disk.js';
import { RecentCommands } from './recent.js';
import type { Responder } from './responder.js';
import type { AoeTargetCounters } from './target-options.js';
import { traceBegin, traceEnd } from './trace.js';

export interface ExecutorOptions {
  readonly disk: Disk;
  readonly port: Port;
  readonly responder: Responder;
  /** Maximum length of a frame, in bytes. */
  readonly frameSize: number;
  readonly counters: AoeTargetCounters;
  readonly steps: Steps;
}

/** Maximum number of commands in flight, of all initiators together. */
export const maxExecuting = 256;

/** Maximum number of initiators with a loss watch; beyond it the oldest watch is dropped. */
const maxInitiators = 1024;

export class Executor {
  readonly #disk: Disk;
  readonly #port: Port;
  readonly #responder: Responder;
  readonly #frameSize: number;
  readonly #counters: AoeTargetCounters;
  readonly #steps: Steps;
  readonly #recent = new RecentCommands();
  /** Loss watches by initiator (MAC key). */
  readonly #losses = new Map<number, LossWatch>();
  readonly #free: Uint8Array[] = [];
  #batch: TargetCommand[] = [];
  #executing = 0;
  #idle: (() => void) | undefined;

  constructor({ disk, port, responder, frameSize, counters, steps }: ExecutorOptions) {
    this.#disk = disk;
    this.#port = port;
    this.#responder = responder;
    this.#frameSize = frameSize;
    this.#counters = counters;
    this.#steps = steps;
  }

  /** Executes an ATA request and answers it. */
  execute(request: Uint8Array, order: Order): void {
    if (this.#executing >= maxExecuting) {
      this.#counters.overload++;
      return;
    }
    const { plan } = order;
    const changes = changesSomething(plan);
    if (!this.#take(request, order, changes)) return;
    if (changes) this.#watchFor(order.mac);
    if (this.#steps.on) traceBegin(this.#steps, tagOf(request), plan);
    if (this.#disk.isDirect && (this.#readDirect(request, order) || this.#writeDirect(request, order))) return;
    // For anything but a write the header is enough.
    const frame = this.#begin(request.subarray(0, AtaArgument.size + (plan.kind === 'write' ? plan.length : 0)));
    if (this.#batch.length === 0) queueMicrotask(() => this.#runBatch());
    this.#batch.push({ ...order, frame });
  }

  /**
   * Answers a request with an error instead of executing it. The error is stored as the result of
   * the tag, like a success: the initiator regards the command as finished, so no later copy of it
   * may be executed either.
   */
  refuse(request: Uint8Array, from: Sender, result: Result): void {
    if (!this.#take(request, from, true)) return;
    const tag = tagOf(request);
    if (from.session) from.session.finish(tag, pack(result));
    else this.#recent.finish(from.mac, tag, pack(result));
    this.#responder.answer(request, result, from.session);
  }

  /** Resolves when no command is in flight. The caller must not start commands meanwhile. */
  idle(): Promise<void> {
    return this.#executing === 0 ? Promise.resolve() : new Promise((resolve) => (this.#idle = resolve));
  }

  /**
   * Starts a loss watch for an initiator at its first write: it must learn of a loss even if the
   * flush of another initiator met it first.
   */
  #watchFor(mac: number): void {
    if (this.#losses.has(mac)) return;
    if (this.#losses.size >= maxInitiators) this.#losses.delete(this.#losses.keys().next().value!);
    this.#losses.set(mac, this.#disk.watchLosses());
  }

  #readDirect(request: Uint8Array, order: Order): boolean {
    const { plan } = order;
    if (plan.kind !== 'read') return false;
    const frame = this.#port.room();
    if (!this.#disk.readDirect(plan, frame.subarray(AtaArgument.size, AtaArgument.size + plan.length))) return false;
    for (let at = 0; at < AtaArgument.size; at++) frame[at] = request[at]!;
    this.#executed(frame, order, good);
    return true;
  }

  #writeDirect(request: Uint8Array, order: Order): boolean {
    const { plan } = order;
    if (plan.kind !== 'write') return false;
    if (!this.#disk.writeDirect(plan, request.subarray(AtaArgument.size, AtaArgument.size + plan.length))) return false;
    const frame = this.#port.room();
    for (let at = 0; at < AtaArgument.size; at++) frame[at] = request[at]!;
    this.#executed(frame, order, good);
    return true;
  }

  /** Executes the commands that arrived together. A run of adjacent ranges becomes one request. */
  #runBatch(): void {
    const batch = this.#batch;
    this.#batch = [];
    for (let from = 0; from < batch.length;) {
      let to = from + 1;
      while (to < batch.length && continues(batch[to - 1]!, batch[to]!)) to++;
      if (to - from > 1) void this.#executeRun(batch.slice(from, to));
      else void this.#execute(batch[from]!);
      from = to;
    }
  }

  async #executeRun(run: readonly TargetCommand[]): Promise<void> {
    try {
      await this.#disk.transfer(run[0]!.plan, new JoinedBuffers(run.map((command) => buffersOf(dataOf(command)))));
    } catch {
      // Execute each command alone to find out which ones fail.
      for (const command of run) void this.#execute(command);
      return;
    }
    for (const command of run) this.#end(command, good);
  }

  async #execute(command: TargetCommand): Promise<void> {
    const { plan, ata, mac } = command;
    this.#end(command, await this.#disk.execute(plan, ata, dataOf(command), this.#losses.get(mac)));
  }

  /** Returns true if the command is new. Answers or counts a copy, and then returns false. */
  #take(request: Uint8Array, { mac, ata, session }: Sender, changes: boolean): boolean {
    const tag = tagOf(request);
    if (!session && !changes) return true;
    const copy = session ? session.take(tag) : this.#recent.take(mac, tag, kindOf(ata), ata.lba);
    switch (copy) {
      case 'new':
        return true;
      case 'stale':
        this.#counters.stale++;
        return false;
      case 'ahead':
        this.#responder.refuse(request, unknownSession);
        return false;
      case 'executing':
        this.#counters.copies++;
        return false;
      case 'done':
        this.#counters.copies++;
        this.#responder.answer(
          request,
          unpack(session ? session.resultOf(tag) : this.#recent.resultOf(mac, tag)),
          session,
        );
        return false;
    }
  }

  /** Answers a command. `frame` begins with the request's header and ATA argument. */
  #executed(frame: Uint8Array, { mac, plan, session }: Order, result: Result): void {
    const tag = tagOf(frame);
    const changes = changesSomething(plan);
    session?.finish(tag, changes ? pack(result) : undefined);
    if (!session && changes) this.#recent.finish(mac, tag, pack(result));
    const sends = plan.kind === 'read' || plan.kind === 'identify';
    if (result === good) {
      if (plan.kind === 'read') this.#counters.bytesRead += plan.length;
      else if (plan.kind === 'write') this.#counters.bytesWritten += plan.length;
    }
    if (this.#steps.on) traceEnd(this.#steps, tag, plan, result === good);
    this.#responder.respondAta(frame, result, sends && result === good ? AtaArgument.size + plan.length : 0, session);
  }

  /** A frame of the target that begins with `request`, in use until {@link #end}. */
  #begin(request: Uint8Array): Uint8Array {
    this.#executing++;
    const frame = this.#free.pop() ?? new Uint8Array(this.#frameSize);
    frame.set(request);
    return frame;
  }

  #end(command: TargetCommand, result: Result): void {
    this.#executed(command.frame, command, result);
    this.#free.push(command.frame);
    if (--this.#executing === 0) this.#idle?.();
  }
}
