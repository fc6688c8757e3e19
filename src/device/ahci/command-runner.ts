/**
 * Runs the commands of a port on its device: those in flight, their giving up, and their times.
 *
 * Not here: which commands are fetched, and what an outcome does to the registers (port.ts).
 */
import { pause } from '../../base/event-loop.js';
import type { ThrottledLogger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import { answerDelay } from '../../machine/late-answer.js';
import type { Trap } from '../../machine/trap.js';
import { PortInterrupt, slots } from '../../spec/ahci.js';
import { failed, type DeviceOutcome, type SataDevice } from '../ata/sata-device.js';
import type { CommandTimes } from '../command-times.js';
import { InFlight, type InFlightCommand } from '../in-flight.js';
import { CommandListError, CommandMemory, type SlotCommand } from './command-list.js';
import { requestOf } from './device-request.js';

/** The parts of the adapter that a port uses. */
export interface PortContext {
  readonly memory: GuestMemory;
  readonly steps: Steps;
  readonly log: ThrottledLogger;
  readonly attribute: (traceId: number, trap: Trap) => void;
  readonly onCommand: (times: CommandTimes) => void;
  /** Tells the adapter that the port's interrupt state may have changed. */
  readonly changed: () => void;
  readonly counts: { commands: number };
}

interface Running extends InFlightCommand {
  readonly queued: boolean;
  done: Promise<void>;
}

/** The parts of a port that the runner uses. */
export interface RunnerPort {
  /** True if an error has stopped the command list. */
  halted(): boolean;
  complete(command: SlotCommand, outcome: DeviceOutcome, queued: boolean): void;
  /** The command has failed with this bit of PxIS. */
  fail(interrupt: number, reason: string): void;
  /** Tells the port that a command has ended, and others may be fetched. */
  fetch(): void;
}

export class CommandRunner {
  readonly #context: PortContext;
  readonly #port: RunnerPort;
  readonly #running = new InFlight<Running>();
  /** Number of times that the commands in flight were given up: those must not complete. */
  #life = 0;
  /**
   * Times of completed commands whose interrupt the driver has not acknowledged, oldest first. At
   * most {@link slots}.
   */
  #times: CommandTimes[] = [];
  /** When the last command was issued, in ms of `performance.now()`. */
  #lastIssued = 0;

  constructor(context: PortContext, port: RunnerPort) {
    this.#context = context;
    this.#port = port;
  }

  get idle(): boolean {
    return this.#running.size === 0;
  }

  /** Resolves when no command is in flight. */
  drained(): Promise<void> {
    return this.#running.drained();
  }

  /** True if a command of this slot is in flight. */
  has(slot: number): boolean {
    return this.#running.has(slot);
  }

  /** True if a queued command is in flight. */
  get queued(): boolean {
    return this.#running.some((one) => one.queued);
  }

  /** Gives up the commands in flight: they end later, without an effect on the port. */
  giveUp(): void {
    this.#life++;
    this.#times = [];
    this.#running.giveUp();
  }

  /** Runs a command, at once if the device can. */
  run(device: SataDevice, command: SlotCommand, queued: boolean, trap?: Trap): void {
    const { memory, steps } = this.#context;
    const life = this.#life;
    const traceId = steps.newTraceId();
    if (trap) this.#context.attribute(traceId, trap);
    const issued = (this.#lastIssued = performance.now());
    const completed = (outcome: DeviceOutcome, answered: number): void => {
      const opcode = command.fis.command;
      this.#port.complete(command, outcome, queued);
      // Bound the list: a driver may poll PxCI and reuse slots without ever acknowledging an
      // interrupt.
      if (this.#times.length >= slots) this.#times.shift();
      this.#times.push({ traceId, opcode, trapped: trap?.time ?? issued, issued, answered, consumed: 0 });
    };
    const now = device.executeNow?.(requestOf(command, memory, memory, { traceId }));
    if (now) return completed(now, performance.now());
    const abort = new AbortController();
    const { signal } = abort;
    const request = requestOf(command, memory, new CommandMemory(memory, signal), { signal, traceId });
    const work = async (): Promise<void> => {
      let end: () => void;
      try {
        const outcome = await device.execute(request);
        const answered = performance.now();
        const delay = failed(outcome) ? 0 : answerDelay(issued, this.#lastIssued, answered);
        if (delay > 0) await pause(delay, signal);
        end = () => completed(outcome, answered);
      } catch (error) {
        const bit = error instanceof CommandListError ? error.interrupt : PortInterrupt.hostBusFatal;
        end = () => this.#port.fail(bit, error instanceof Error ? error.message : String(error));
      }
      this.#running.ended(command.slot);
      if (this.#life !== life || this.#port.halted()) return;
      end();
      this.#port.fetch();
    };
    const entry: Running = { abort, queued, done: Promise.resolve() };
    this.#running.add(command.slot, entry);
    entry.done = work();
  }

  /** The driver has acknowledged the port's interrupt, and so has consumed the completions. */
  consumed(): void {
    if (this.#times.length === 0) return;
    const consumed = performance.now();
    for (const times of this.#times.splice(0)) {
      this.#context.steps.step(times.traceId, 'end', 'the driver has taken the completion', consumed);
      this.#context.onCommand({ ...times, consumed });
    }
  }
}
