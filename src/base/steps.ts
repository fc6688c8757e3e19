/**
 * The steps of [SYS] fig. 4-13, reported as the running system passes them. `--trace` prints them
 * and tests assert them.
 *
 * Each command (one read, write, flush … of the guest's driver) has a trace id. Its steps carry
 * that id and a time.
 */

/** A step's number in the figures of [SYS], as text: "301", "261". */
export type StepId = string;

/**
 * Identifies a command: a number from {@link Steps.newTraceId}, or the protocol's own identifier,
 * such as an NBD cookie of 64 bits.
 */
export type TraceId = number | bigint;

/** The command itself, with step 261. */
export interface StepCommand {
  /** "read", "write", "flush", "trim", "write zeroes". */
  readonly operation: string;
  /** First byte; 0 for a command without a range. */
  readonly offset: number;
  /** In bytes; 0 for a command without a range. */
  readonly length: number;
}

/** One step that a command has passed. */
export interface Step {
  /** Id of the command; 0 for a step that belongs to no command (boot). */
  readonly traceId: TraceId;
  /** The number of the step in the design (docs/system.md). */
  readonly id: StepId;
  /** Time of `performance.now()`, in ms. */
  readonly time: number;
  /** A short description of the step: "write sectors 2048..2055". */
  readonly detail: string;
  /** The id that the other computer uses for the same command. */
  readonly wire?: TraceId;
  /** With step 261: the command. */
  readonly command?: StepCommand;
}

/**
 * Receives steps. Called while the guest's command is served: it must be quick and must not throw.
 */
export interface StepSink {
  /** Receives a step. Must not throw. */
  step(step: Step): void;
}

/** Passes each reported step on to every sink. Without a sink, a report costs one test. */
export class Steps {
  #sinks: StepSink[] = [];
  #lastId = 0;

  /** True if there is a sink. Ask before building the text of a detail. */
  get on(): boolean {
    return this.#sinks.length > 0;
  }

  /** The id of a new command: 1, 2, … */
  newTraceId(): number {
    return ++this.#lastId;
  }

  /** Adds a receiver of all further steps. */
  add(sink: StepSink): void {
    this.#sinks = [...this.#sinks, sink];
  }

  /** Removes a sink. The sink may call this from its own `step`. */
  remove(sink: StepSink): void {
    this.#sinks = this.#sinks.filter((one) => one !== sink);
  }

  /**
   * Reports a step.
   * @param time when it was passed, in ms of `performance.now()`, if earlier than now
   * @param wire the id that the other computer uses for the same command
   */
  step(traceId: TraceId, id: StepId, detail = '', time = performance.now(), wire?: TraceId): void {
    if (this.#sinks.length === 0) return;
    this.#report({ traceId, id, detail, time, ...(wire !== undefined && { wire }) });
  }

  /** Reports step 261, with the command. */
  command(traceId: TraceId, detail: string, command: StepCommand): void {
    if (this.#sinks.length > 0) this.#report({ traceId, id: '261', detail, time: performance.now(), command });
  }

  #report(step: Step): void {
    for (const sink of this.#sinks) sink.step(step);
  }
}
